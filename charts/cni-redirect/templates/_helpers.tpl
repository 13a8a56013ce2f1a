{{/* Where the platforms have what others have in the places that the CNI specification names. */}}
{{- define "cni-redirect.paths" -}}
binDir: {{ .Values.cniBinDir | default (get (dict "gke" "/home/kubernetes/bin" "openshift" "/var/lib/cni/bin" "k3s" "/var/lib/rancher/k3s/data/cni" "k3d" "/var/lib/rancher/k3s/data/cni" "microk8s" "/var/snap/microk8s/current/opt/cni/bin") .Values.global.platform) | default "/opt/cni/bin" }}
confDir: {{ .Values.cniConfDir | default (get (dict "openshift" "/etc/kubernetes/cni/net.d" "k3s" "/var/lib/rancher/k3s/agent/etc/cni/net.d" "k3d" "/var/lib/rancher/k3s/agent/etc/cni/net.d" "microk8s" "/var/snap/microk8s/current/args/cni-network") .Values.global.platform) | default "/etc/cni/net.d" }}
netnsDir: {{ .Values.cniNetnsDir | default (ternary "/var/run/docker/netns" "/var/run/netns" (eq .Values.global.platform "minikube")) }}
{{- end }}

{{/* Refuses values that cannot work, with a sentence. */}}
{{- define "cni-redirect.check" -}}
{{- include "ambit.checkShared" . -}}
{{- include "ambit.checkDaemonSetRollout" . -}}
{{- include "cni-redirect.checkUpgrade" . -}}
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
{{- include "ambit.checkEnv" (list . (list "POD_NAME" "POD_NAMESPACE" "NODE_NAME" "LOG_LEVEL" "LOG_FORMAT" "CNI_CONF_DIR" "CNI_BIN_DIR" "CNI_BIN_DIR_ON_HOST" "EXCLUDE_NAMESPACES" "REMOVE_ON_STOP" "DAEMONSET_NAME" "TAINT_NODE" "RELEASE_GRACE") (list "KUBECONFIG" "CNI_AGENT_SOCKET" "CNI_AGENT_SOCKET_ON_HOST" "ZTUNNEL_SOCKET" "STATE_DIR" "NETNS_DIR" "CNI_CACHE_DIR" "PLUGIN_SOURCE" "HEALTH_PORT" "METRICS_PORT")) -}}
{{- include "ambit.checkPlacement" . -}}
{{- if and .Values.taint.enabled (ne (include "cni-redirect.isTolerated" (list (include "ambit.notReady" . | fromYaml) .Values.tolerations)) "true") -}}
{{- fail "taint.enabled: tolerations keep the agent off nodes with the taint cni.istio.io/not-ready, which nobody else takes away; add key cni.istio.io/not-ready, operator Exists" -}}
{{- end -}}
{{- $paths := include "cni-redirect.paths" . | fromYaml -}}
{{- $folders := list (list "the plugin's socket" "/var/run/istio-cni") (list "ztunnel's socket" "/var/run/ztunnel") -}}
{{- include "ambit.checkFolders" (concat $folders (list (list "cniBinDir" $paths.binDir) (list "cniConfDir" $paths.confDir) (list "cniNetnsDir" $paths.netnsDir))) -}}
{{- include "ambit.checkPodSecurity" . -}}
{{- include "ambit.checkPriorityClass" . -}}
{{- end }}

{{/* Refuses to put an agent beside one of before that declares its ports: the new one would wait for them for ever. */}}
{{- define "cni-redirect.checkUpgrade" -}}
{{- $surge := get (.Values.updateStrategy.rollingUpdate | default dict) "maxSurge" | default 0 | toString -}}
{{- if and (eq .Values.updateStrategy.type "RollingUpdate") (not (has $surge (list "0" "0%"))) -}}
{{- $stands := lookup "apps/v1" "DaemonSet" .Release.Namespace "cni-redirect" -}}
{{- range dig "spec" "template" "spec" "containers" list ($stands | default dict) -}}
{{- if .ports -}}
{{- fail "updateStrategy.rollingUpdate: the agent that runs keeps ports of its node, beside which no other one starts; for this upgrade set updateStrategy.rollingUpdate.maxSurge=0 and maxUnavailable=1" -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Whether one toleration (of one effect) is covered by a list of them. Takes a list of both. */}}
{{- define "cni-redirect.isTolerated" -}}
{{- $wanted := index . 0 -}}
{{- $is := false -}}
{{- $all := index . 1 | default list -}}
{{- /* Those that every pod of a DaemonSet has, and what a node has for a while only. */}}
{{- range list "not-ready" "unreachable" "disk-pressure" "memory-pressure" "pid-pressure" "unschedulable" "network-unavailable" -}}
{{- $all = append $all (dict "key" (printf "node.kubernetes.io/%s" .) "operator" "Exists") -}}
{{- end -}}
{{- range $one := $all -}}
{{- $operator := $one.operator | default "Equal" -}}
{{- $isSame := and (eq $operator ($wanted.operator | default "Equal")) (eq ($one.value | default "") ($wanted.value | default "")) -}}
{{- $isKey := or (not $one.key) (eq $one.key ($wanted.key | default "")) -}}
{{- $isEffect := has ($one.effect | default "") (list "" $wanted.effect) -}}
{{- $isAsLong := or (hasKey $wanted "tolerationSeconds") (not (hasKey $one "tolerationSeconds")) -}}
{{- if and $isKey (or (eq $operator "Exists") $isSame) $isEffect $isAsLong }}{{ $is = true }}{{ end -}}
{{- end -}}
{{- $is -}}
{{- end }}
