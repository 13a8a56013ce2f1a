{{/*
Shared by all charts: each has this file as templates/_common.tpl. In the umbrella the definitions are the same, so
that it does not matter whose is taken.
*/}}

{{/* Labels of an object. Takes a list: the root context, and the name of the program. */}}
{{- define "ambit.labels" -}}
{{- $root := index . 0 -}}
{{ include "ambit.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: ambit
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- end }}

{{/*
Labels that users add to those of the chart. Takes a list: the name of the value, the labels, and names that the chart
has there beside those of every object.
*/}}
{{- define "ambit.moreLabels" -}}
{{- $value := index . 0 -}}
{{- $labels := index . 1 -}}
{{- $own := concat (index . 2) (list "app" "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/version" "app.kubernetes.io/part-of" "app.kubernetes.io/managed-by" "helm.sh/chart") -}}
{{- range $name := $own -}}
{{- if hasKey $labels $name -}}
{{- fail (printf "%s: %s is a label of the chart's own, by which things are found; take it out" $value $name) -}}
{{- end -}}
{{- end -}}
{{- with $labels }}{{ toYaml . }}{{ end -}}
{{- end }}

{{/* Annotations of a program's pods; those of users hold. Takes a list: the root context, and the port of its metrics. */}}
{{- define "ambit.podAnnotations" -}}
{{- $own := dict "prometheus.io/scrape" "true" "prometheus.io/port" (index . 1) -}}
{{- merge dict ((index . 0).Values.podAnnotations | default dict) $own | toYaml -}}
{{- end }}

{{/* Labels by which a program's pods are selected; they never change between versions. */}}
{{- define "ambit.selector" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
app: {{ $name }}
app.kubernetes.io/name: {{ $name }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
{{- end }}

{{/* An image. Takes a list: the root context, and the name of the image; a name with a slash is taken as it is. */}}
{{- define "ambit.image" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- if contains "/" $name -}}
{{ $name }}
{{- else -}}
{{- $tag := $root.Values.tag | default $root.Values.global.tag | default $root.Chart.AppVersion -}}
{{- if not (kindIs "string" $tag) -}}
{{- fail (printf "tag and global.tag: %v is read as a number, which may not be what was written (1.10 is 1.1); put it in quotes, or give it by --set-string" $tag) -}}
{{- end -}}
{{- if hasPrefix "sha256:" $tag -}}
{{- fail (printf "tag and global.tag: %s is the digest of one image, and several are run; name each of them whole, as image: registry/name@sha256:…" $tag) -}}
{{- end -}}
{{ $root.Values.hub | default $root.Values.global.hub }}/{{ $name }}:{{ $tag }}
{{- end -}}
{{- end }}

{{- define "ambit.imagePullSecrets" -}}
{{- with .Values.global.imagePullSecrets -}}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end -}}
{{- end }}

{{/* Variables that every program reads. */}}
{{- define "ambit.commonEnv" -}}
- name: CLUSTER_ID
  value: {{ .Values.global.multiCluster.clusterName | default "Kubernetes" | quote }}
- name: TRUST_DOMAIN
  value: {{ .Values.global.trustDomain | quote }}
{{ include "ambit.logEnv" . }}
{{- end }}

{{- define "ambit.logEnv" -}}
- name: LOG_LEVEL
  value: {{ .Values.logLevel | default .Values.global.logging.level | quote }}
- name: LOG_FORMAT
  value: {{ ternary "json" "text" .Values.global.logAsJson }}
- name: POD_NAME
  valueFrom: { fieldRef: { fieldPath: metadata.name } }
- name: POD_NAMESPACE
  valueFrom: { fieldRef: { fieldPath: metadata.namespace } }
{{- end }}

{{/* A length of time such as 1h30m in milliseconds, as a text. */}}
{{- define "ambit.durationMs" -}}
{{- $total := 0.0 -}}
{{- $unitMs := dict "ms" 1.0 "s" 1000.0 "m" 60000.0 "h" 3600000.0 -}}
{{- range regexFindAll "[0-9.]+(ms|s|m|h)" . -1 -}}
{{- $total = addf $total (mulf (regexFind "[0-9.]+" . | float64) (get $unitMs (regexFind "[a-z]+" .))) -}}
{{- end -}}
{{- $total -}}
{{- end }}

{{/*
Refuses a length of time that the program refuses. Takes a list: the name of the value, the value, and the least and the most
as texts.
*/}}
{{- define "ambit.checkDuration" -}}
{{- $ms := include "ambit.durationMs" (index . 1) | float64 -}}
{{- range $bound, $word := dict (index . 2) "least" (index . 3) "most" -}}
{{- $limit := include "ambit.durationMs" $bound | float64 -}}
{{- if or (and (eq $word "least") (lt $ms $limit)) (and (eq $word "most") (gt $ms $limit)) -}}
{{- fail (printf "%s: %s is not possible; set it to %s at %s" (index $ 0) (index $ 1) $bound $word) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/*
Refuses variables that are decided elsewhere. Takes a list: the root context, names that values set, and names by which the
program would do something else than its ports, folders and rights are made for.
*/}}
{{- define "ambit.checkEnv" -}}
{{- $env := (index . 0).Values.env -}}
{{- range $name := index . 1 -}}
{{- if hasKey $env $name -}}
{{- fail (printf "env.%s is set by a value of its own; set that one (see values.yaml)" $name) -}}
{{- end -}}
{{- end -}}
{{- range $name := index . 2 -}}
{{- if hasKey $env $name -}}
{{- fail (printf "env.%s cannot be set: ports, folders and rights of this chart are those of its default; take it out" $name) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* An amount as Kubernetes writes it, such as 100m or 1.5Gi, as a number in a text. */}}
{{- define "ambit.quantity" -}}
{{- $text := toString . -}}
{{- $unit := regexFind "([KMGTPE]i|[numkMGTPE])$" $text -}}
{{- $factors := dict "n" 1e-9 "u" 1e-6 "m" 1e-3 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18 "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 "Pi" 1125899906842624.0 "Ei" 1152921504606846976.0 -}}
{{- mulf (trimPrefix "+" (trimSuffix $unit $text) | float64) (get $factors $unit | default 1.0) -}}
{{- end }}

{{/* Resources without those that are null, which is how a value of another file is taken away. */}}
{{- define "ambit.resources" -}}
{{- $all := dict -}}
{{- range $kind, $amounts := . -}}
{{- $given := dict -}}
{{- range $name, $amount := $amounts }}{{ if not (kindIs "invalid" $amount) }}{{ $_ := set $given $name $amount }}{{ end }}{{ end -}}
{{- $_ := set $all $kind $given -}}
{{- end -}}
{{- $all | toJson -}}
{{- end }}

{{/*
Refuses resources with which no pod is made or no program starts. Takes a list: the name of the value, and the resources.
Measured: a program is killed while it is loaded with 48Mi, and with 10m of a CPU that alone takes longer than the probes wait.
*/}}
{{- define "ambit.checkResources" -}}
{{- $resources := include "ambit.resources" (index . 1) | fromJson -}}
{{- $limits := $resources.limits | default dict -}}
{{- range $name, $least := dict "memory" "64Mi" "cpu" "20m" -}}
{{- $limit := get $limits $name -}}
{{- $amount := include "ambit.quantity" ($limit | default 0) | float64 -}}
{{- if and (gt $amount 0.0) (lt $amount (include "ambit.quantity" $least | float64)) -}}
{{- fail (printf "%s: with limits.%s %v the program never starts; set it to %s at least, or to null for none" (index $ 0) $name $limit $least) -}}
{{- end -}}
{{- end -}}
{{- range $name, $asked := $resources.requests -}}
{{- if hasKey $limits $name -}}
{{- $limit := get $limits $name -}}
{{- if gt (include "ambit.quantity" $asked | float64) (include "ambit.quantity" $limit | float64) -}}
{{- fail (printf "%s: requests.%s %v is more than limits.%s %v, which no pod may have; make the limit larger, or null for none" (index $ 0) $name $asked $name $limit) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/*
Refuses a HorizontalPodAutoscaler that could never tell how busy a program is, or that it is busy. Takes a list: the value that
asks for it, the name of the resources' value, the resources, and the name and the percents of its target. Where there is a
limit only, Kubernetes asks for as much.
*/}}
{{- define "ambit.checkScaledOnCpu" -}}
{{- $resources := include "ambit.resources" (index . 2) | fromJson -}}
{{- $limit := include "ambit.quantity" (dig "limits" "cpu" 0 $resources) | float64 -}}
{{- $asked := include "ambit.quantity" (dig "requests" "cpu" (dig "limits" "cpu" 0 $resources) $resources) | float64 -}}
{{- if le $asked 0.0 -}}
{{- fail (printf "%s: the number of pods follows their share of the CPU that they ask for, and they ask for none; set %s.requests.cpu" (index . 0) (index . 1)) -}}
{{- end -}}
{{- if and (gt $limit 0.0) (gt (divf (mulf $asked (index . 4)) 100.0) $limit) -}}
{{- fail (printf "%s %v: %s.limits.cpu lets no pod take that much of what it asks for, so none would ever be added; set it lower, or the limit higher" (index . 3) (index . 4) (index . 1)) -}}
{{- end -}}
{{- end }}

{{/*
Refuses too little time to end. Takes a list: the name of the value, its seconds, how long the program may need as a text, and
what it does then.
*/}}
{{- define "ambit.checkGrace" -}}
{{- $needed := divf (include "ambit.durationMs" (index . 2) | float64) 1000.0 | ceil | int -}}
{{- if lt (int (index . 1)) $needed -}}
{{- fail (printf "%s: in %d seconds a pod is killed before %s; set it to %d or more" (index . 0) (int (index . 1)) (index . 3) $needed) -}}
{{- end -}}
{{- end }}

{{/* Refuses what no pod may have, or where none of ours can run. Takes the root context. */}}
{{- define "ambit.checkPlacement" -}}
{{- range $index, $one := .Values.tolerations -}}
{{- $where := printf "tolerations[%d]" $index -}}
{{- $isAny := eq ($one.operator | default "") "Exists" -}}
{{- if not (or $one.key $isAny) -}}
{{- fail (printf "%s: without a key it is every taint, which operator Exists says; set that, or a key" $where) -}}
{{- end -}}
{{- if and $one.value $isAny -}}
{{- fail (printf "%s: operator Exists is any value of the taint; take value out, or set operator to Equal" $where) -}}
{{- end -}}
{{- if and (hasKey $one "tolerationSeconds") (ne ($one.effect | default "") "NoExecute") -}}
{{- fail (printf "%s: tolerationSeconds is of effect NoExecute only; set that, or take it out" $where) -}}
{{- end -}}
{{- end -}}
{{- if not (has (dig "kubernetes.io/os" "" (.Values.nodeSelector | default dict)) (list "" "linux")) -}}
{{- fail (printf "nodeSelector: kubernetes.io/os=%s: the images are of Linux; set it to linux" (get .Values.nodeSelector "kubernetes.io/os")) -}}
{{- end -}}
{{- include "ambit.checkSeccomp" . -}}
{{- end }}

{{- define "ambit.checkSeccomp" -}}
{{- $profile := .Values.seccompProfile | default dict -}}
{{- $file := $profile.localhostProfile | default "" -}}
{{- if and (eq ($profile.type | default "") "Localhost") (not $file) -}}
{{- fail "seccompProfile: type Localhost needs the file of the node; set localhostProfile" -}}
{{- end -}}
{{- if and $file (ne ($profile.type | default "") "Localhost") -}}
{{- fail "seccompProfile: localhostProfile is of type Localhost only; set that, or take the file out" -}}
{{- end -}}
{{- if or (hasPrefix "/" $file) (has ".." (splitList "/" $file)) -}}
{{- fail (printf "seccompProfile: localhostProfile %q: it is a file below the kubelet's folder of profiles; name it from there, without / at its beginning and without .." $file) -}}
{{- end -}}
{{- end }}

{{/* Refuses one folder of the node for two things. Takes a list of lists: what a folder is of, and its path. */}}
{{- define "ambit.checkFolders" -}}
{{- $seen := dict -}}
{{- range $one := . -}}
{{- $path := regexReplaceAll "^/var/run/" (printf "%s/" (trimSuffix "/" (index $one 1))) "/run/" -}}
{{- if hasKey $seen $path -}}
{{- fail (printf "%s: %s of the node is the folder of %s, too; set it to one of its own" (index $one 0) (index $one 1) (get $seen $path)) -}}
{{- end -}}
{{- $_ := set $seen $path (index $one 0) -}}
{{- end -}}
{{- end }}

{{/* Of a NetworkPolicy, what it lets out. */}}
{{- define "ambit.egress" -}}
# Names, the API server and the controller, at addresses that no chart knows: also where the namespace lets nobody out.
egress: [{}]
{{- end }}

{{/* Refuses a namespace that admits no pod of those that enter others' network namespaces. */}}
{{- define "ambit.checkPodSecurity" -}}
{{- $label := "pod-security.kubernetes.io/enforce" -}}
{{- $level := dig "metadata" "labels" $label "" (lookup "v1" "Namespace" "" .Release.Namespace | default dict) -}}
{{- if has $level (list "baseline" "restricted") -}}
{{- fail (printf "namespace %[1]s admits pods of Pod Security %[2]s only, and so none of a program that enters the pods of its node: kubectl label namespace %[1]s %[3]s=privileged --overwrite" .Release.Namespace $level $label) -}}
{{- end -}}
{{- end }}

{{/* What whoever makes a node ready has to mind: the taint of one that is not. */}}
{{- define "ambit.notReady" -}}
{ key: cni.istio.io/not-ready, operator: Exists, effect: NoSchedule }
{{- end }}

{{/*
Affinity to nodes that are machines: providers have others for single pods of their own choice, EKS Fargate and virtual nodes, where
no DaemonSet's pod ever runs, and whoever tolerates their taint would wait. Takes what is asked for beside that.
*/}}
{{- define "ambit.affinity" -}}
{{- $machines := list (dict "key" "eks.amazonaws.com/compute-type" "operator" "NotIn" "values" (list "fargate")) (dict "key" "type" "operator" "NotIn" "values" (list "virtual-kubelet")) -}}
{{- $affinity := deepCopy (. | default dict) -}}
{{- $node := $affinity.nodeAffinity | default dict -}}
{{- $asked := dig "requiredDuringSchedulingIgnoredDuringExecution" "nodeSelectorTerms" list $node | default (list (dict "matchExpressions" list)) -}}
{{- $terms := list -}}
{{- range $asked -}}
{{- /* An empty term is met by no node, and stays so. */}}
{{- $terms = append $terms (ternary (merge (dict "matchExpressions" (concat (.matchExpressions | default list) $machines)) .) . (gt (len .) 0)) -}}
{{- end -}}
{{- $_ := set $node "requiredDuringSchedulingIgnoredDuringExecution" (dict "nodeSelectorTerms" $terms) -}}
{{- $_ := set $affinity "nodeAffinity" $node -}}
{{- toYaml $affinity -}}
{{- end }}

{{/*
Refuses what only means something in a chart of which this one is a part, and shared values that nobody reads. In such a chart others
may read them. Takes the context of the chart.
*/}}
{{- define "ambit.checkShared" -}}
{{- if .Chart.IsRoot -}}
{{- $known := list "hub" "tag" "imagePullPolicy" "imagePullSecrets" "waypoint" "platform" "logging" "logAsJson" "multiCluster" "trustDomain" -}}
{{- range $name, $_ := .Values.global -}}
{{- if not (has $name $known) -}}
{{- fail (printf "global.%s is no value of the mesh; there are global.%s" $name (join ", global." $known)) -}}
{{- end -}}
{{- end -}}
{{- if not (kindIs "invalid" .Values.enabled) -}}
{{- fail "enabled is for a chart of which this one is a part, where helm leaves it out by a condition; by itself it would do nothing" -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Refuses a rollout that could never go on. Takes a list: the name of the value, maxSurge and maxUnavailable. */}}
{{- define "ambit.checkRollout" -}}
{{- $none := list "0" "0%" -}}
{{- if and (has (toString (index . 1)) $none) (has (toString (index . 2)) $none) -}}
{{- fail (printf "%s are both 0, so no new version could ever come; set one of them to 1" (index . 0)) -}}
{{- end -}}
{{- end }}

{{/* How many a number or a percentage is. Takes a list: that, and of how many; Kubernetes rounds up. */}}
{{- define "ambit.share" -}}
{{- $share := toString (index . 0) -}}
{{- if hasSuffix "%" $share -}}
{{- divf (mulf (trimSuffix "%" $share | float64) (index . 1)) 100.0 | ceil | int -}}
{{- else -}}
{{- $share -}}
{{- end -}}
{{- end }}

{{- define "ambit.checkDaemonSetRollout" -}}
{{- $rolling := .Values.updateStrategy.rollingUpdate | default dict -}}
{{- $none := list "0" "0%" -}}
{{- if not (or (has (toString (get $rolling "maxSurge" | default 0)) $none) (has (toString (get $rolling "maxUnavailable" | default 0)) $none)) -}}
{{- fail "updateStrategy.rollingUpdate: a DaemonSet has either maxSurge or maxUnavailable; set the other one to 0" -}}
{{- end -}}
{{- if eq .Values.updateStrategy.type "RollingUpdate" -}}
{{- include "ambit.checkRollout" (list "updateStrategy.rollingUpdate: maxSurge and maxUnavailable" (get $rolling "maxSurge" | default 0) (get $rolling "maxUnavailable" | default (ternary 0 1 (hasKey $rolling "maxUnavailable")))) -}}
{{- end -}}
{{- end }}

{{/* Refuses a priority class that the cluster does not have or admit: no pod would be made, and an install would wait for ever. */}}
{{- define "ambit.checkPriorityClass" -}}
{{- $known := list -}}
{{- range (lookup "scheduling.k8s.io/v1" "PriorityClass" "" "").items -}}{{- $known = append $known .metadata.name -}}{{- end -}}
{{- if and .Values.priorityClassName $known (not (has .Values.priorityClassName $known)) -}}
{{- fail (printf "priorityClassName: the cluster has no PriorityClass %s; set it to one of %s, or to none" .Values.priorityClassName (join ", " $known)) -}}
{{- end -}}
{{- /* Of GKE's version; whoever made the quota by hand has it in the namespace. */}}
{{- $isCritical := has .Values.priorityClassName (list "system-node-critical" "system-cluster-critical") -}}
{{- $hasQuota := or .Values.resourceQuotas.enabled (eq .Values.global.platform "gke") (eq .Release.Namespace "kube-system") -}}
{{- if and $isCritical (not $hasQuota) (contains "-gke." .Capabilities.KubeVersion.Version) -}}
{{- if not (lookup "v1" "ResourceQuota" .Release.Namespace "").items -}}
{{- fail (printf "global.platform: this is GKE, where pods of priorityClassName %s are made in a namespace with a quota for them only; set global.platform to gke, which makes one, or resourceQuotas.enabled to true" .Values.priorityClassName) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Variables of the chart's own choice, sorted by name. */}}
{{- define "ambit.extraEnv" -}}
{{- $lines := list -}}
{{- range $name, $value := .Values.env -}}
{{- /* A whole number of a file would be written as 1e+06. */}}
{{- $whole := and (kindIs "float64" $value) (eq (printf "%.0f" $value | float64) $value) -}}
{{- $lines = append $lines (dict "name" $name "value" (ternary (printf "%v" (int64 (ternary $value 0 $whole))) (toString $value) $whole)) -}}
{{- end -}}
{{- with $lines }}{{ toYaml . }}{{ end -}}
{{- end }}

{{/*
A quota that admits pods of the two node-critical priority classes: some clusters (GKE) admit them in kube-system only,
unless a quota of the namespace says otherwise.
*/}}
{{- define "ambit.resourceQuota" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- if or $root.Values.resourceQuotas.enabled (eq $root.Values.global.platform "gke") }}
apiVersion: v1
kind: ResourceQuota
metadata:
  name: {{ $name }}-resource-quota
  namespace: {{ $root.Release.Namespace }}
  labels: {{- include "ambit.labels" . | nindent 4 }}
spec:
  hard:
    pods: {{ $root.Values.resourceQuotas.pods | quote }}
  scopeSelector:
    matchExpressions:
      - operator: In
        scopeName: PriorityClass
        values: [system-node-critical, system-cluster-critical]
{{- end }}
{{- end }}

{{/* On OpenShift a pod may do what a security context constraint allows its account. */}}
{{- define "ambit.openshiftPrivileged" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- if eq $root.Values.global.platform "openshift" }}
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ $name }}-scc
  namespace: {{ $root.Release.Namespace }}
  labels: {{- include "ambit.labels" . | nindent 4 }}
rules:
  - apiGroups: [security.openshift.io]
    resources: [securitycontextconstraints]
    resourceNames: [privileged]
    verbs: [use]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ $name }}-scc
  namespace: {{ $root.Release.Namespace }}
  labels: {{- include "ambit.labels" . | nindent 4 }}
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: Role, name: {{ $name }}-scc }
subjects: [{ kind: ServiceAccount, name: {{ $name }}, namespace: {{ $root.Release.Namespace }} }]
{{- end }}
{{- end }}

{{- define "ambit.seLinuxOptions" -}}
{{- $options := .Values.seLinuxOptions -}}
{{- if and (not $options) (eq .Values.global.platform "openshift") -}}
{{- $options = dict "type" "spc_t" -}}
{{- end -}}
{{- with $options -}}
seLinuxOptions: {{- toYaml . | nindent 2 }}
{{- end -}}
{{- end }}

{{/*
Refuses a second mesh: two of them redirect the same pods, and each undoes what the other does. Asked of the cluster at
install and upgrade; `helm template` has no cluster to ask.
*/}}
{{- define "ambit.refuseOtherMesh" -}}
{{- range (lookup "apps/v1" "DaemonSet" "" "").items -}}
{{- /* Istio's charts give them any name, and these labels. */}}
{{- $called := list .metadata.name (dig "labels" "app" "" .metadata) (dig "labels" "k8s-app" "" .metadata) -}}
{{- if or (has "ztunnel" $called) (has "cni-redirect" $called) (has "istio-cni-node" $called) -}}
{{- if ne (include "ambit.isOurs" (list $ .)) "true" -}}
{{- fail (printf "another mesh is here: DaemonSet %s/%s redirects the pods of this cluster. Two meshes undo each other's rules: uninstall that one first." .metadata.namespace .metadata.name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $kind := list "ValidatingWebhookConfiguration" "MutatingWebhookConfiguration" -}}
{{- range (lookup "admissionregistration.k8s.io/v1" $kind "" "").items -}}
{{- if has (dig "labels" "app" "" .metadata) (list "istiod" "sidecar-injector") -}}
{{- fail (printf "Istio is here: %s %s belongs to an istiod. Both would write the status of the same resources: uninstall Istio first (its resources and their definitions stay)." $kind .metadata.name) -}}
{{- end -}}
{{- if and (eq .metadata.name "ambit-validator") (ne (include "ambit.isOurs" (list $ .)) "true") -}}
{{- fail (printf "another Ambit is here: its %s %s is of release %s in namespace %s. Two meshes undo each other's rules: uninstall that one first." $kind .metadata.name (dig "annotations" "meta.helm.sh/release-name" "(none)" .metadata) (dig "annotations" "meta.helm.sh/release-namespace" "(none)" .metadata)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- /* An istiod may have no webhook. Where there are many Deployments, only those of its usual namespaces are read. */}}
{{- range list $.Release.Namespace "istio-system" | uniq -}}
{{- range (lookup "apps/v1" "Deployment" . "").items -}}
{{- if eq (dig "labels" "app" "" .metadata) "istiod" -}}
{{- fail (printf "Istio is here: Deployment %s/%s is an istiod. Both would write the status of the same resources: uninstall Istio first (its resources and their definitions stay)." .metadata.namespace .metadata.name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Whether an object of the cluster is of this mesh. Takes a list: the root context, and the object. */}}
{{- define "ambit.isOurs" -}}
{{- $metadata := (index . 1).metadata -}}
{{- $ofAmbit := eq (dig "labels" "app.kubernetes.io/part-of" "" $metadata) "ambit" -}}
{{- and $ofAmbit (eq (dig "annotations" "meta.helm.sh/release-namespace" "" $metadata) (index . 0).Release.Namespace) -}}
{{- end }}

{{/*
A Job that helm runs around an uninstall, with its account and rights. Takes a dict: root, phase (release or remove),
hook, rules (of the whole cluster) and ownRules (of the mesh's namespace).
*/}}
{{- define "ambit.uninstall" -}}
{{- $root := .root -}}
{{- $name := printf "ambit-uninstall-%s" .phase -}}
{{- $labels := include "ambit.labels" (list $root $name) -}}
{{- $namespace := $root.Release.Namespace -}}
{{- $hook := dict "helm.sh/hook" .hook "helm.sh/hook-delete-policy" "before-hook-creation,hook-succeeded" -}}
{{- $before := merge (dict "helm.sh/hook-weight" "-5") $hook | toYaml -}}
{{- include "ambit.checkResources" (list "uninstall.resources" $root.Values.uninstall.resources) -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ $name }}
  namespace: {{ $namespace }}
  labels: {{- $labels | nindent 4 }}
  annotations: {{- $before | nindent 4 }}
{{- with include "ambit.imagePullSecrets" $root }}{{ . | nindent 0 }}{{ end }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ $name }}
  labels: {{- $labels | nindent 4 }}
  annotations: {{- $before | nindent 4 }}
rules: {{- tpl .rules $root | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ $name }}
  labels: {{- $labels | nindent 4 }}
  annotations: {{- $before | nindent 4 }}
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {{ $name }} }
subjects: [{ kind: ServiceAccount, name: {{ $name }}, namespace: {{ $namespace }} }]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ $name }}
  namespace: {{ $namespace }}
  labels: {{- $labels | nindent 4 }}
  annotations: {{- $before | nindent 4 }}
rules: {{- tpl .ownRules $root | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ $name }}
  namespace: {{ $namespace }}
  labels: {{- $labels | nindent 4 }}
  annotations: {{- $before | nindent 4 }}
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: Role, name: {{ $name }} }
subjects: [{ kind: ServiceAccount, name: {{ $name }}, namespace: {{ $namespace }} }]
{{- if dig "enabled" true ($root.Values.networkPolicy | default dict) }}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ $name }}
  namespace: {{ $namespace }}
  labels: {{- $labels | nindent 4 }}
  annotations: {{- $before | nindent 4 }}
spec:
  podSelector:
    matchLabels: {{- include "ambit.selector" (list $root $name) | nindent 6 }}
  policyTypes: [Ingress, Egress]
  {{- include "ambit.egress" . | nindent 2 }}
{{- end }}
---
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ $name }}
  namespace: {{ $namespace }}
  labels: {{- $labels | nindent 4 }}
  annotations:
    {{- toYaml $hook | nindent 4 }}
    # Why it failed, and which nodes were not waited for; helm itself tells neither.
    helm.sh/hook-output-log-policy: hook-failed,hook-succeeded
spec:
  backoffLimit: 0
  activeDeadlineSeconds: 280
  # One that failed is replaced by the next try, and goes if there is none.
  ttlSecondsAfterFinished: 3600
  template:
    metadata:
      labels:
        {{- include "ambit.selector" (list $root $name) | nindent 8 }}
        istio.io/dataplane-mode: none
    spec:
      serviceAccountName: {{ $name }}
      restartPolicy: Never
      tolerations:
        # Whatever the nodes are kept for,
        - { operator: Exists, effect: NoSchedule }
        # but not one that is dead. With none of their own pods get tolerations of these two for five minutes; the API server
        # looks at the key and the effect only, and no such taint has a value.
        {{- range tuple "unreachable" "not-ready" }}
        - { key: node.kubernetes.io/{{ . }}, operator: Equal, value: never, effect: NoExecute }
        {{- end }}
      nodeSelector: { kubernetes.io/os: linux }
      affinity: {{- include "ambit.affinity" dict | nindent 8 }}
      securityContext:
        runAsNonRoot: true
        seccompProfile: { type: RuntimeDefault }
      containers:
        - name: uninstall
          image: {{ include "ambit.image" (list $root $root.Values.uninstall.image) }}
          {{- with $root.Values.global.imagePullPolicy }}
          imagePullPolicy: {{ . }}
          {{- end }}
          command: [/usr/local/bin/node, --enable-source-maps, /opt/ambit/uninstall.mjs]
          env:
            - name: PHASE
              value: {{ .phase }}
            - name: TIMEOUT
              value: {{ $root.Values.uninstall.timeout | quote }}
            {{- with .env }}{{ toYaml . | nindent 12 }}{{ end }}
            {{- include "ambit.logEnv" $root | nindent 12 }}
          resources: {{- include "ambit.resources" $root.Values.uninstall.resources | fromJson | toYaml | nindent 12 }}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: { drop: [ALL] }
{{- end }}
