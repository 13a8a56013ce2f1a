{{- define "ztunnel.netnsDir" -}}
{{ .Values.cniNetnsDir | default (ternary "/var/run/docker/netns" "/var/run/netns" (eq .Values.global.platform "minikube")) }}
{{- end }}

{{/* Refuses values that cannot work, with a sentence. */}}
{{- define "ztunnel.check" -}}
{{- include "ambit.checkShared" . -}}
{{- include "ambit.checkDaemonSetRollout" . -}}
{{- $address := regexFind "^(\\[[0-9a-fA-F:.]+\\]|[^:\\s]+):[0-9]{1,5}$" .Values.xdsAddress -}}
{{- $port := regexFind "[0-9]+$" $address | int -}}
{{- if and .Values.xdsAddress (or (lt $port 1) (gt $port 65535)) -}}
{{- fail (printf "xdsAddress %q is not host:port, for example ambit-controller.istio-system.svc:15012" .Values.xdsAddress) -}}
{{- end -}}
{{- range $name, $most := dict "CONNECT_TIMEOUT" "596h" "WAIT_TIMEOUT" "596h" "RELEASE_LINGER" "596h" "STATE_MAX_AGE" "8760h" -}}
{{- with get $.Values.env $name -}}
{{- include "ambit.checkDuration" (list (printf "env.%s" $name) . "0s" $most) -}}
{{- end -}}
{{- end -}}
{{- include "ambit.checkEnv" (list . (list "POD_NAME" "POD_NAMESPACE" "NODE_NAME" "CLUSTER_ID" "TRUST_DOMAIN" "LOG_LEVEL" "LOG_FORMAT" "CONTROLLER_ADDRESS" "TERMINATION_DRAIN" "MAX_CONNECTIONS_PER_POD" "STATE_FILE" "STATE_KEY_FILE") (list "TOKEN_FILE" "ROOTS_FILE" "ZTUNNEL_AGENT_SOCKET" "ADMIN_PORT" "METRICS_PORT" "READINESS_PORT")) -}}
{{- include "ambit.checkResources" (list "resources" .Values.resources) -}}
{{- include "ambit.checkPlacement" . -}}
{{- $folders := list (list "the agent's socket" "/var/run/ztunnel") (list "cniNetnsDir" (include "ztunnel.netnsDir" .)) -}}
{{- with .Values.stateDir }}{{ $folders = append $folders (list "stateDir" .) }}{{ end -}}
{{- include "ambit.checkFolders" $folders -}}
{{- include "ambit.checkPodSecurity" . -}}
{{- include "ambit.checkPriorityClass" . -}}
{{- end }}
