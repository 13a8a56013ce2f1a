{{/*
Refuses a proxy that may be on fewer nodes than the agent, which would wait for it there for ever. Takes a dict: proxy and
agent, the values of both.
*/}}
{{- define "ambit.sameNodes" -}}
{{- $proxy := .proxy -}}
{{- $agent := .agent -}}
{{- range $label, $value := $proxy.nodeSelector -}}
{{- if ne (toString $value) (toString (get ($agent.nodeSelector | default dict) $label)) -}}
{{- fail (printf "ztunnel.nodeSelector asks for %s=%v and cni-redirect.nodeSelector does not: on the other nodes the agent would wait for a proxy for ever. Set both" $label $value) -}}
{{- end -}}
{{- end -}}
{{- range $index, $wanted := $agent.tolerations -}}
{{- range $effect := ternary (list $wanted.effect) (list "NoSchedule" "NoExecute") (not (empty $wanted.effect)) -}}
{{- if and (ne $effect "PreferNoSchedule") (ne (include "cni-redirect.isTolerated" (list (set (deepCopy $wanted) "effect" $effect) $proxy.tolerations)) "true") -}}
{{- fail (printf "cni-redirect.tolerations[%d] (%s) has the agent on nodes with taints that ztunnel.tolerations does not mind: there the agent would wait for a proxy for ever. Set both" $index (toJson $wanted)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if ne (include "ambit.isAllowed" (list $agent $proxy.affinity)) "true" -}}
{{- fail "ztunnel.affinity.nodeAffinity asks for nodes with more than cni-redirect.affinity and nodeSelector do: on the other nodes the agent would wait for a proxy for ever. Set both" -}}
{{- end -}}
{{- end }}

{{/* Whether an affinity allows every node that the agent may be on. Takes a list: the agent's values, and the affinity. */}}
{{- define "ambit.isAllowed" -}}
{{- $agent := index . 0 -}}
{{- $terms := include "ambit.nodeTerms" (index . 1) | fromJsonArray -}}
{{- $selected := list -}}
{{- range $label, $value := $agent.nodeSelector -}}
{{- $selected = append $selected (dict "key" $label "operator" "In" "values" (list $value)) -}}
{{- end -}}
{{- $isAllowed := true -}}
{{- range $where := include "ambit.nodeTerms" $agent.affinity | fromJsonArray | default (list dict) -}}
{{- $known := concat $selected ($where.matchExpressions | default list) -}}
{{- $fits := empty $terms -}}
{{- range $term := $terms -}}
{{- $isMet := true -}}
{{- range $asked := $term.matchExpressions -}}
{{- if ne (include "ambit.follows" (list $asked $known)) "true" }}{{ $isMet = false }}{{ end -}}
{{- end -}}
{{- range $asked := $term.matchFields -}}
{{- if not (has $asked ($where.matchFields | default list)) }}{{ $isMet = false }}{{ end -}}
{{- end -}}
{{- if $isMet }}{{ $fits = true }}{{ end -}}
{{- end -}}
{{- if not $fits }}{{ $isAllowed = false }}{{ end -}}
{{- end -}}
{{- $isAllowed -}}
{{- end }}

{{- define "ambit.nodeTerms" -}}
{{- dig "nodeAffinity" "requiredDuringSchedulingIgnoredDuringExecution" "nodeSelectorTerms" list (. | default dict) | toJson -}}
{{- end }}

{{/* Whether what is known of a node says that it meets an expression. Takes a list: the expression, and those that it meets. */}}
{{- define "ambit.follows" -}}
{{- $asked := index . 0 -}}
{{- $follows := false -}}
{{- range $known := index . 1 -}}
{{- if and (eq $known.key $asked.key) (eq $known.operator "In") (has $asked.operator (list "In" "Exists")) -}}
{{- $isIn := true -}}
{{- range $known.values -}}
{{- if and (eq $asked.operator "In") (not (has . ($asked.values | default list))) }}{{ $isIn = false }}{{ end -}}
{{- end -}}
{{- if $isIn }}{{ $follows = true }}{{ end -}}
{{- else if eq (toJson $known) (toJson $asked) -}}
{{- $follows = true -}}
{{- end -}}
{{- end -}}
{{- $follows -}}
{{- end }}
