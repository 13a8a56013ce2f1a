{{/* Whether a definition of the cluster is of this release. Takes a list: the context of this chart, and the definition. */}}
{{- define "base.isOwn" -}}
{{- $release := (index . 0).Release -}}
{{- $annotations := dig "metadata" "annotations" dict (index . 1) -}}
{{- and (eq (get $annotations "meta.helm.sh/release-name") $release.Name) (eq (get $annotations "meta.helm.sh/release-namespace") $release.Namespace) -}}
{{- end }}

{{/* What whoever installs has to know of definitions. Takes the context of this chart. */}}
{{- define "base.notes" -}}
{{- if and .Values.gatewayClasses.enabled (not (.Capabilities.APIVersions.Has "gateway.networking.k8s.io/v1/GatewayClass")) }}
The Gateway API is not installed, so there are no waypoints yet. Install its definitions, then run helm upgrade:
  kubectl apply --server-side -f https://github.com/kubernetes-sigs/gateway-api/releases/latest/download/standard-install.yaml
{{- end }}
{{- $left := false }}
{{- range $path, $_ := .Files.Glob "files/crds/*.yaml" }}
{{- $name := ($.Files.Get $path | fromYaml).metadata.name }}
{{- $there := lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" $name }}
{{- $annotations := dig "metadata" "annotations" dict ($there | default dict) }}
{{- if and $there (ne (include "base.isOwn" (list $ $there)) "true") }}
{{- if eq (dig "metadata" "labels" "app.kubernetes.io/part-of" "" $there) "ambit" }}
{{- $left = true }}
Kept as it was, because it is of release {{ get $annotations "meta.helm.sh/release-name" }} in namespace {{ get $annotations "meta.helm.sh/release-namespace" }}: CustomResourceDefinition {{ $name }}
{{- else }}
Kept as it was, because somebody else installed it: CustomResourceDefinition {{ $name }}
{{- end }}
{{- end }}
{{- end }}
{{- if $left }}
If that release is gone, hand the definitions that it left to this one, then run helm upgrade, which brings them up to date:
  kubectl annotate crd -l app.kubernetes.io/part-of=ambit --overwrite meta.helm.sh/release-name={{ .Release.Name }} meta.helm.sh/release-namespace={{ .Release.Namespace }}
{{- end }}
{{- end }}
