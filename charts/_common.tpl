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

{{/* Variables of the chart's own choice, sorted by name. */}}
{{- define "ambit.extraEnv" -}}
{{- $lines := list -}}
{{- range $name, $value := .Values.env -}}
{{- $lines = append $lines (dict "name" $name "value" (toString $value)) -}}
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
{{- $ours := eq (dig "annotations" "meta.helm.sh/release-namespace" "" .metadata) $.Release.Namespace -}}
{{- if and (has .metadata.name (list "ztunnel" "cni-redirect" "istio-cni-node")) (not $ours) -}}
{{- fail (printf "another mesh is here: DaemonSet %s/%s redirects the pods of this cluster. Two meshes undo each other's rules: uninstall that one first." .metadata.namespace .metadata.name) -}}
{{- end -}}
{{- end -}}
{{- range (lookup "admissionregistration.k8s.io/v1" "ValidatingWebhookConfiguration" "" "").items -}}
{{- if eq (dig "labels" "app" "" .metadata) "istiod" -}}
{{- fail (printf "Istio is here: ValidatingWebhookConfiguration %s belongs to an istiod. Both would write the status of the same resources: uninstall Istio first (its resources and their definitions stay)." .metadata.name) -}}
{{- end -}}
{{- end -}}
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
          resources: { requests: { cpu: 50m, memory: 96Mi } }
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: { drop: [ALL] }
{{- end }}
