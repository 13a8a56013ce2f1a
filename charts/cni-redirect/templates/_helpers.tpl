{{/* Where the platforms have what others have in the places that the CNI specification names. */}}
{{- define "cni-redirect.paths" -}}
binDir: {{ .Values.cniBinDir | default (get (dict "gke" "/home/kubernetes/bin" "openshift" "/var/lib/cni/bin" "k3s" "/var/lib/rancher/k3s/data/cni" "k3d" "/var/lib/rancher/k3s/data/cni" "microk8s" "/var/snap/microk8s/current/opt/cni/bin") .Values.global.platform) | default "/opt/cni/bin" }}
confDir: {{ .Values.cniConfDir | default (get (dict "openshift" "/etc/kubernetes/cni/net.d" "k3s" "/var/lib/rancher/k3s/agent/etc/cni/net.d" "k3d" "/var/lib/rancher/k3s/agent/etc/cni/net.d" "microk8s" "/var/snap/microk8s/current/args/cni-network") .Values.global.platform) | default "/etc/cni/net.d" }}
netnsDir: {{ .Values.cniNetnsDir | default (ternary "/var/run/docker/netns" "/var/run/netns" (eq .Values.global.platform "minikube")) }}
{{- end }}

{{/* Refuses values that cannot work, with a sentence. */}}
{{- define "cni-redirect.check" -}}
{{- $rolling := .Values.updateStrategy.rollingUpdate | default dict -}}
{{- if ne (toString (get $rolling "maxSurge" | default 0)) "0" -}}
{{- fail "updateStrategy.rollingUpdate.maxSurge: the agent has ports of its own on the node, so two of them cannot run beside each other; use maxUnavailable" -}}
{{- end -}}
{{- if eq .Values.updateStrategy.type "RollingUpdate" -}}
{{- $down := toString (get $rolling "maxUnavailable" | default (ternary 0 1 (hasKey $rolling "maxUnavailable"))) -}}
{{- if has $down (list "0" "0%") -}}
{{- fail "updateStrategy.rollingUpdate.maxUnavailable: with 0 no new version could ever come; set it to 1" -}}
{{- end -}}
{{- end -}}
{{- with .Values.releaseGrace -}}
{{- include "ambit.checkDuration" (list "releaseGrace" . "0s" "596h") -}}
{{- end -}}
{{- $grace := .Values.releaseGrace | default "2s" -}}
{{- if .Values.uninstall.enabled -}}
{{- /* Asked to leave, the agent waits for the grace and three seconds more, and is asked once a second whether it has. */}}
{{- $needed := printf "%s10s" $grace -}}
{{- $timeout := .Values.uninstall.timeout | default "120s" -}}
{{- if gt (include "ambit.durationMs" $needed | float64) (include "ambit.durationMs" $timeout | float64) -}}
{{- fail (printf "releaseGrace: within uninstall.timeout %s no node could release its pods, which takes releaseGrace %s and up to 10s more; make the first longer or the second shorter" $timeout $grace) -}}
{{- end -}}
{{- end -}}
{{- with .Values.terminationGracePeriodSeconds -}}
{{- include "ambit.checkGrace" (list "terminationGracePeriodSeconds" . (printf "%s25s" $grace) (printf "it has released the pods of its node, which takes releaseGrace %s and up to 25s more" $grace)) -}}
{{- end -}}
{{- include "ambit.checkResources" (list "resources" .Values.resources) -}}
{{- include "ambit.checkEnv" (list . (list "POD_NAME" "POD_NAMESPACE" "NODE_NAME" "LOG_LEVEL" "LOG_FORMAT" "CNI_CONF_DIR" "CNI_BIN_DIR" "CNI_BIN_DIR_ON_HOST" "EXCLUDE_NAMESPACES" "REMOVE_ON_STOP" "DAEMONSET_NAME" "TAINT_NODE" "RELEASE_GRACE") (list "KUBECONFIG" "CNI_AGENT_SOCKET" "CNI_AGENT_SOCKET_ON_HOST" "ZTUNNEL_SOCKET" "STATE_DIR" "NETNS_DIR" "PLUGIN_SOURCE" "HEALTH_PORT" "METRICS_PORT")) -}}
{{- include "ambit.checkSeccomp" . -}}
{{- include "ambit.checkPriorityClass" . -}}
{{- end }}
