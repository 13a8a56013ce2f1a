{{/*
Refuses a proxy that may be on fewer nodes than the agent, which would wait for it there for ever. Takes a dict: proxy and
agent, the values of both.
*/}}
{{- define "ambit.sameNodes" -}}
{{- $proxy := .proxy -}}
{{- $agent := .agent -}}
{{- range $label, $value := $proxy.nodeSelector -}}
{{- $asked := dict "key" $label "operator" "In" "values" (list $value) -}}
{{- $term := dict "matchExpressions" (list $asked) -}}
{{- if ne (include "ambit.isAllowed" (list $agent (list $term))) "true" -}}
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
{{- if ne (include "ambit.isAllowed" (list $agent (include "ambit.nodeTerms" $proxy.affinity | fromJsonArray))) "true" -}}
{{- fail "ztunnel.affinity.nodeAffinity asks for nodes with more than cni-redirect.affinity and nodeSelector do: on the other nodes the agent would wait for a proxy for ever. Set both" -}}
{{- end -}}
{{- end }}

{{/*
Whether terms allow every node that the agent may be on. What several of them allow together is not looked at: they pass. Takes
a list: the agent's values, and the terms.
*/}}
{{- define "ambit.isAllowed" -}}
{{- $agent := index . 0 -}}
{{- $terms := index . 1 -}}
{{- $selected := list -}}
{{- range $label, $value := $agent.nodeSelector -}}
{{- $selected = append $selected (dict "key" $label "operator" "In" "values" (list $value)) -}}
{{- end -}}
{{- $isAllowed := true -}}
{{- if eq (len $terms) 1 -}}
{{- $term := first $terms -}}
{{- range $where := include "ambit.nodeTerms" $agent.affinity | fromJsonArray | default (list dict) -}}
{{- $known := concat $selected ($where.matchExpressions | default list) -}}
{{- range $asked := $term.matchExpressions -}}
{{- if ne (include "ambit.follows" (list $asked $known)) "true" }}{{ $isAllowed = false }}{{ end -}}
{{- end -}}
{{- range $asked := $term.matchFields -}}
{{- if ne (include "ambit.follows" (list $asked ($where.matchFields | default list))) "true" }}{{ $isAllowed = false }}{{ end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $isAllowed -}}
{{- end }}

{{- define "ambit.nodeTerms" -}}
{{- dig "nodeAffinity" "requiredDuringSchedulingIgnoredDuringExecution" "nodeSelectorTerms" list (. | default dict) | toJson -}}
{{- end }}

{{/*
Whether what is known of a node says that it meets an expression, or may say so. Takes a list: the expression, and those that
it meets.
*/}}
{{- define "ambit.follows" -}}
{{- $asked := index . 0 -}}
{{- $values := toStrings ($asked.values | default list) -}}
{{- $operators := list -}}
{{- $in := list -}}
{{- $notIn := list -}}
{{- $bounds := list -}}
{{- range $known := index . 1 -}}
{{- if eq $known.key $asked.key -}}
{{- $those := toStrings ($known.values | default list) -}}
{{- if eq $known.operator "In" -}}
{{- $both := list -}}
{{- range $those }}{{ if or (not (has "In" $operators)) (has . $in) }}{{ $both = append $both . }}{{ end }}{{ end -}}
{{- $in = $both -}}
{{- else if eq $known.operator "NotIn" -}}
{{- $notIn = concat $notIn $those -}}
{{- else if eq $known.operator $asked.operator -}}
{{- $bounds = concat $bounds $those -}}
{{- end -}}
{{- $operators = append $operators $known.operator -}}
{{- end -}}
{{- end -}}
{{- $possible := list -}}
{{- range $in }}{{ if not (has . $notIn) }}{{ $possible = append $possible . }}{{ end }}{{ end -}}
{{- $isIn := has "In" $operators -}}
{{- $isNumber := or (has "Gt" $operators) (has "Lt" $operators) -}}
{{- $follows := true -}}
{{- if eq $asked.operator "In" -}}
{{- $follows = or $isIn (and (has "Gt" $operators) (has "Lt" $operators)) -}}
{{- range $possible }}{{ if not (has . $values) }}{{ $follows = false }}{{ end }}{{ end -}}
{{- else if eq $asked.operator "NotIn" -}}
{{- range $values -}}
{{- if and (not (has . $notIn)) (or (not $isIn) (has . $possible)) }}{{ $follows = false }}{{ end -}}
{{- end -}}
{{- $follows = or $follows $isNumber (has "DoesNotExist" $operators) -}}
{{- else if eq $asked.operator "Exists" -}}
{{- $follows = or $isIn $isNumber (has "Exists" $operators) -}}
{{- else if eq $asked.operator "DoesNotExist" -}}
{{- $follows = has "DoesNotExist" $operators -}}
{{- else if and (has $asked.operator (list "Gt" "Lt")) $values -}}
{{- $limit := first $values | int64 -}}
{{- $sign := ternary 1 -1 (eq $asked.operator "Gt") | int64 -}}
{{- $follows = $isIn -}}
{{- range $possible }}{{ if le (mul $sign (int64 .)) (mul $sign $limit) }}{{ $follows = false }}{{ end }}{{ end -}}
{{- range $bounds }}{{ if ge (mul $sign (int64 .)) (mul $sign $limit) }}{{ $follows = true }}{{ end }}{{ end -}}
{{- end -}}
{{- $follows -}}
{{- end }}
