{{/* Refuses values that cannot work, with a sentence. */}}
{{- define "controller.check" -}}
{{- include "ambit.checkShared" . -}}
{{- $values := .Values -}}
{{- if and (not $values.autoscaleEnabled) (lt (int $values.replicaCount) 1) -}}
{{- fail "replicaCount: a mesh without a controller gives no certificates and no configuration; set it to 1 or more" -}}
{{- end -}}
{{- if and $values.autoscaleEnabled (gt (int $values.autoscaleMin) (int $values.autoscaleMax)) -}}
{{- fail (printf "autoscaleMin %v is more than autoscaleMax %v; make it smaller" $values.autoscaleMin $values.autoscaleMax) -}}
{{- end -}}
{{- $most := int (ternary $values.autoscaleMax $values.replicaCount $values.autoscaleEnabled) -}}
{{- if and (or $values.resourceQuotas.enabled (eq $values.global.platform "gke")) (gt $most (int $values.resourceQuotas.pods)) -}}
{{- fail (printf "resourceQuotas.pods %v is less than the %d controllers that are asked for; make it larger" $values.resourceQuotas.pods $most) -}}
{{- end -}}
{{- $replicas := int (ternary $values.autoscaleMin $values.replicaCount $values.autoscaleEnabled) -}}
{{- if and $values.podDisruptionBudget.enabled (gt $replicas 1) (ge (include "ambit.share" (list $values.podDisruptionBudget.minAvailable $replicas) | int) $replicas) -}}
{{- fail (printf "podDisruptionBudget.minAvailable %v of %d controllers lets no node be drained; set it below the number of controllers" $values.podDisruptionBudget.minAvailable $replicas) -}}
{{- end -}}
{{- with dig "trustDomain" "" $values.meshConfig -}}
{{- if ne . $values.global.trustDomain -}}
{{- fail (printf "meshConfig.trustDomain %q is not what the proxies are told; set global.trustDomain to it, for all charts" .) -}}
{{- end -}}
{{- end -}}
{{- $known := list "prometheus" "envoy" -}}
{{- if $values.meshConfig.enableTracing }}{{ $known = append $known "zipkin" }}{{ end -}}
{{- range $index, $provider := $values.meshConfig.extensionProviders -}}
{{- if ne (len (without (keys $provider) "name")) 1 -}}
{{- fail (printf "meshConfig.extensionProviders[%d] %s: a provider is of exactly one kind, such as envoyExtAuthzHttp or opentelemetry; it has %v" $index (get $provider "name") (without (keys $provider) "name" | sortAlpha)) -}}
{{- end -}}
{{- $known = append $known (get $provider "name") -}}
{{- end -}}
{{- range $kind, $names := $values.meshConfig.defaultProviders -}}
{{- range $names -}}
{{- if not (has . $known) -}}
{{- fail (printf "meshConfig.defaultProviders.%s: no provider is called %q; add it to meshConfig.extensionProviders" $kind .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- include "ambit.checkRollout" (list "rollingMaxSurge and rollingMaxUnavailable" $values.rollingMaxSurge $values.rollingMaxUnavailable) -}}
{{- with $values.certificateTtl -}}
{{- include "ambit.checkDuration" (list "certificateTtl" . "1m" "87600h") -}}
{{- end -}}
{{- $quiet := $values.env.PUSH_DEBOUNCE | default "10ms" -}}
{{- $most := $values.env.PUSH_DEBOUNCE_MAX | default "1s" -}}
{{- include "ambit.checkDuration" (list "env.PUSH_DEBOUNCE" $quiet "0s" $most) -}}
{{- include "ambit.checkDuration" (list "env.PUSH_DEBOUNCE_MAX" $most "0s" "596h") -}}
{{- include "ambit.checkPlacement" . -}}
{{- with $values.env.ADVERTISED_ADDRESS -}}
{{- if ne (include "controller.isNamed" (list $ .)) "true" -}}
{{- fail (printf "env.ADVERTISED_ADDRESS %s is none of the names in the controller's certificate, so no waypoint would trust it; add its host to servingNames" .) -}}
{{- end -}}
{{- end -}}
{{- include "ambit.checkEnv" (list . (list "POD_NAME" "POD_NAMESPACE" "DEFAULT_REVISION" "CLUSTER_ID" "TRUST_DOMAIN" "LOG_LEVEL" "LOG_FORMAT" "WAYPOINT_IMAGE" "WAYPOINT_IMAGE_PULL_POLICY" "WAYPOINT_IMAGE_PULL_SECRETS" "WAYPOINT_RESOURCES" "CERTIFICATE_TTL" "REVISION" "SERVING_NAMES" "TRUST_DOMAIN_ALIASES") (list "KUBECONFIG" "ROOT_NAMESPACE" "CONTROL_ADDRESS" "CONTROL_PORT" "METRICS_PORT" "WEBHOOK_PORT")) -}}
{{- include "ambit.checkResources" (list "resources" $values.resources) -}}
{{- include "ambit.checkResources" (list "global.waypoint.resources" $values.global.waypoint.resources) -}}
{{- if $values.autoscaleEnabled -}}
{{- include "ambit.checkScaledOnCpu" (list "autoscaleEnabled" "resources" $values.resources "cpu.targetAverageUtilization" $values.cpu.targetAverageUtilization) -}}
{{- end -}}
{{- with $values.terminationGracePeriodSeconds -}}
{{- include "ambit.checkGrace" (list "terminationGracePeriodSeconds" . "22s" "it has handed over to the other controllers") -}}
{{- end -}}
{{- include "ambit.checkPriorityClass" . -}}
{{- end }}

{{/*
Whether the controller's certificate has the host of an address. Takes a list: the context of this chart (Values, Release), and
host:port.
*/}}
{{- define "controller.isNamed" -}}
{{- $values := (index . 0).Values -}}
{{- $namespace := (index . 0).Release.Namespace -}}
{{- $host := regexReplaceAll ":[0-9]+$" (index . 1) "" | trimPrefix "[" | trimSuffix "]" | trimSuffix "." | lower -}}
{{- $service := printf "ambit-controller.%s.svc" $namespace -}}
{{- $domain := get ($values.env | default dict) "CLUSTER_DOMAIN" | default "cluster.local" -}}
{{- $names := list "ambit-controller" (printf "ambit-controller.%s" $namespace) $service (printf "%s.%s" $service $domain) (printf "istiod.%s.svc" $namespace) -}}
{{- range $values.servingNames }}{{ $names = append $names (lower .) }}{{ end -}}
{{- /* An address of IPv6 can be written in many ways. */}}
{{- $isOther := and (contains ":" $host) (contains ":" (join "," $names)) -}}
{{- or $isOther (has $host $names) (has (regexReplaceAll "^[^.]+" $host "*") $names) -}}
{{- end }}

{{/* The Lease by which the controllers of a revision know who of them writes; that of the default one bears no revision. */}}
{{- define "controller.lease" -}}
{{- $revision := .Values.revision | default "default" -}}
{{- ternary "ambit-controller" (printf "ambit-controller-%s" $revision) (eq $revision (.Values.defaultRevision | default "default")) -}}
{{- end }}

{{/* What whoever installs has to know of values that do nothing. Takes the context of this chart. */}}
{{- define "controller.notes" -}}
{{- $read := list "accessLogEncoding" "accessLogFile" "accessLogFormat" "defaultConfig" "defaultProviders" "discoverySelectors" "enablePrometheusMerge" "enableTracing" "extensionProviders" "pathNormalization" "rootNamespace" "trustDomain" "trustDomainAliases" }}
{{- range $name, $_ := .Values.meshConfig }}
{{- if not (has $name $read) }}
Not read, it has no effect: meshConfig.{{ $name }}
{{- end }}
{{- end }}
{{- end }}
