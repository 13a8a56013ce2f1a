{{/* What whoever installs has to know of definitions. Takes the context of this chart. */}}
{{- define "base.notes" -}}
{{- if and .Values.gatewayClasses.enabled (not (.Capabilities.APIVersions.Has "gateway.networking.k8s.io/v1/GatewayClass")) }}
The Gateway API is not installed, so there are no waypoints yet. Install its definitions, then run helm upgrade:
  kubectl apply --server-side -f https://github.com/kubernetes-sigs/gateway-api/releases/latest/download/standard-install.yaml
{{- end }}
{{- range $path, $_ := .Files.Glob "files/crds/*.yaml" }}
{{- $name := ($.Files.Get $path | fromYaml).metadata.name }}
{{- $there := lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" $name }}
{{- if and $there (ne (dig "metadata" "annotations" "meta.helm.sh/release-name" "" $there) $.Release.Name) }}
Kept as it was, because somebody else installed it: CustomResourceDefinition {{ $name }}
{{- end }}
{{- end }}
{{- end }}
