{{- /* What the templates have in common. Those that begin with "damask.data" and "damask.file" are in
_contents.tpl. */ -}}

{{- /* An image: (list $ NAME). */ -}}
{{- define "damask.image" -}}
{{- $root := index . 0 -}}
{{ $root.Values.images.registry }}/{{ index . 1 }}:{{ $root.Values.images.tag | default $root.Chart.AppVersion }}
{{- end }}

{{- /* The hosts of the control plane, by the names that all configurations have for them. */ -}}
{{- define "damask.hostAliases" -}}
{{- range $i, $address := .Values.controlPlane.hosts }}
- ip: {{ $address }}
  hostnames:
  - control-{{ add1 $i }}
{{- end }}
{{- end }}

{{- /* A service's addresses on these hosts: (list $ SCHEME PORT). */ -}}
{{- define "damask.addresses" -}}
{{- $scheme := index . 1 }}{{ $port := index . 2 }}{{ $list := list -}}
{{- range $i, $_ := (index . 0).Values.controlPlane.hosts }}
{{- $list = append $list (printf "%scontrol-%d:%d" $scheme (add1 $i) $port | quote) }}
{{- end }}
{{- join ", " $list }}
{{- end }}

{{- /* The name of a ConfigMap with the hash of its content, as kustomize makes it: another content is
another ConfigMap, and so a new rollout, and the same one is none: (list $ WHICH NAME). Kustomize has a
name in what it hashes too, but never finds it. */ -}}
{{- define "damask.name" -}}
{{- $data := printf "%s\n" (include (printf "damask.data.%s" (index . 1)) (index . 0)) | fromYaml }}
{{- $hash := dict "kind" "ConfigMap" "name" "" "data" $data | toJson | sha256sum | trunc 10 }}
{{- index . 2 }}-{{ $hash | replace "0" "g" | replace "1" "h" | replace "3" "k" | replace "a" "m" | replace "e" "t" }}
{{- end }}

{{- /* The configuration file of a process, with what the values add to it: (list $ PROCESS). */ -}}
{{- define "damask.configuration" -}}
{{- $root := index . 0 }}
{{- $file := include (printf "damask.file.%s" (index . 1)) $root }}
{{- with index $root.Values.config (index . 1) }}
{{- $merged := fromYaml $file }}
{{- include "damask.merge" (list $merged .) }}
{{- $file = toYaml $merged }}
{{- /* These end a line in YAML, but toYaml leaves them as they are, and so nothing indents what
follows: JSON is YAML too. */ -}}
{{- if regexMatch "[\u0085\u2028\u2029]" $file }}
{{- $file = toJson $merged | replace "\u0085" "\\u0085" }}
{{- end }}
{{- end }}
{{- $file | trimSuffix "\n" }}
{{- end }}

{{- /* The resources of a container: (list VALUES DEFAULTS). */ -}}
{{- define "damask.resources" -}}
{{- $merged := index . 1 }}
{{- include "damask.merge" (list $merged (index . 0)) }}
{{- toYaml $merged }}
{{- end }}

{{- /* Writes what is in the second map into the first, map by map. What is false or empty counts
too, which it does not with mergeOverwrite. */ -}}
{{- define "damask.merge" -}}
{{- $into := index . 0 }}
{{- range $key, $value := index . 1 }}
{{- if and (kindIs "map" $value) (kindIs "map" (index $into $key)) }}
{{- include "damask.merge" (list (index $into $key) $value) }}
{{- else }}
{{- $_ := set $into $key $value }}
{{- end }}
{{- end }}
{{- end }}

{{- /* What two maps both say, a line each: (list WHERE FIRST SECOND). */ -}}
{{- define "damask.overlap" -}}
{{- $where := index . 0 }}{{ $first := index . 1 -}}
{{- range $key, $value := index . 2 }}
{{- if hasKey $first $key }}
{{- $own := index $first $key }}
{{- if and (kindIs "map" $value) (kindIs "map" $own) }}
{{- include "damask.overlap" (list (printf "%s.%s" $where $key) $own $value) }}
{{- else }}
{{- printf "%s.%s\n" $where $key }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
