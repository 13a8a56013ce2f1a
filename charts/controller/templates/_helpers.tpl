{{/* Refuses values that cannot work, with a sentence. */}}
{{- define "controller.check" -}}
{{- $values := .Values -}}
{{- if and (not $values.autoscaleEnabled) (lt (int $values.replicaCount) 1) -}}
{{- fail "replicaCount: a mesh without a controller gives no certificates and no configuration; set it to 1 or more" -}}
{{- end -}}
{{- if and $values.autoscaleEnabled (gt (int $values.autoscaleMin) (int $values.autoscaleMax)) -}}
{{- fail (printf "autoscaleMin %v is more than autoscaleMax %v; make it smaller" $values.autoscaleMin $values.autoscaleMax) -}}
{{- end -}}
{{- $replicas := int (ternary $values.autoscaleMin $values.replicaCount $values.autoscaleEnabled) -}}
{{- if and $values.podDisruptionBudget.enabled (gt $replicas 1) (ge (int $values.podDisruptionBudget.minAvailable) $replicas) -}}
{{- fail (printf "podDisruptionBudget.minAvailable %v of %d controllers lets no node be drained; set it below the number of controllers" $values.podDisruptionBudget.minAvailable $replicas) -}}
{{- end -}}
{{- with dig "trustDomain" "" $values.meshConfig -}}
{{- if ne . $values.global.trustDomain -}}
{{- fail (printf "meshConfig.trustDomain %q is not what the proxies are told; set global.trustDomain to it, for all charts" .) -}}
{{- end -}}
{{- end -}}
{{- if and (eq (toString $values.rollingMaxSurge) "0") (eq (toString $values.rollingMaxUnavailable) "0") -}}
{{- fail "rollingMaxSurge and rollingMaxUnavailable are both 0, so no new version could ever come; set one of them to 1" -}}
{{- end -}}
{{- range $name := list "POD_NAME" "POD_NAMESPACE" "CLUSTER_ID" "TRUST_DOMAIN" "LOG_LEVEL" "LOG_FORMAT" "WAYPOINT_IMAGE" "WAYPOINT_IMAGE_PULL_POLICY" "WAYPOINT_IMAGE_PULL_SECRETS" "WAYPOINT_RESOURCES" "CERTIFICATE_TTL" "REVISION" "SERVING_NAMES" "TRUST_DOMAIN_ALIASES" -}}
{{- if hasKey $values.env $name -}}
{{- fail (printf "env.%s is set by a value of its own; set that one (see values.yaml)" $name) -}}
{{- end -}}
{{- end -}}
{{- end }}
