{{- define "ztunnel.netnsDir" -}}
{{ .Values.cniNetnsDir | default (ternary "/var/run/docker/netns" "/var/run/netns" (eq .Values.global.platform "minikube")) }}
{{- end }}

{{/* Refuses values that cannot work, with a sentence. */}}
{{- define "ztunnel.check" -}}
{{- $rolling := .Values.updateStrategy.rollingUpdate | default dict -}}
{{- if and (ne (toString (get $rolling "maxSurge" | default 0)) "0") (ne (toString (get $rolling "maxUnavailable" | default 0)) "0") -}}
{{- fail "updateStrategy.rollingUpdate: a DaemonSet has either maxSurge or maxUnavailable; set the other one to 0" -}}
{{- end -}}
{{- if and .Values.xdsAddress (not (regexMatch "^.+:[0-9]+$" .Values.xdsAddress)) -}}
{{- fail (printf "xdsAddress %q is not host:port, for example ambit-controller.istio-system.svc:15012" .Values.xdsAddress) -}}
{{- end -}}
{{- range $name := list "POD_NAME" "POD_NAMESPACE" "NODE_NAME" "CLUSTER_ID" "TRUST_DOMAIN" "LOG_LEVEL" "LOG_FORMAT" "CONTROLLER_ADDRESS" "TERMINATION_DRAIN" "MAX_CONNECTIONS_PER_POD" "STATE_FILE" "STATE_KEY_FILE" -}}
{{- if hasKey $.Values.env $name -}}
{{- fail (printf "env.%s is set by a value of its own; set that one (see values.yaml)" $name) -}}
{{- end -}}
{{- end -}}
{{- end }}
