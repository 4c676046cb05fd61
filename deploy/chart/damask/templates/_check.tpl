{{- /* All that is wrong with the values and that their schema cannot say. */ -}}
{{- define "damask.check" -}}
{{- $wrong := list }}
{{- if not .Values.apiServer.host }}
{{- $wrong = append $wrong "apiServer.host is missing: the address of the API server, which hosts reach without DNS and without its cluster IP" }}
{{- end }}
{{- $hosts := len .Values.controlPlane.hosts }}
{{- if not $hosts }}
{{- $wrong = append $wrong "controlPlane.hosts is missing: the IPv4 addresses of the hosts that run the control services, one, three or five of them" }}
{{- else if not (has $hosts (list 1 3 5)) }}
{{- $wrong = append $wrong (printf "controlPlane.hosts has %d hosts: one, three or five can have the store" $hosts) }}
{{- end }}
{{- if and .Values.certificates.certManager (not .Values.certificates.enabled) }}
{{- $wrong = append $wrong "certificates.certManager is for the control services alone: with it certificates.enabled must be true, for those of the nodes" }}
{{- end }}
{{- if and .Values.takeover.enabled .Values.openvswitch.enabled }}
{{- $wrong = append $wrong "takeover.enabled is for nodes that have an Open vSwitch: with it openvswitch.enabled must be false" }}
{{- end }}
{{- range $i, $range := .Values.network.pods }}
{{- if not (regexMatch (include "damask.range" $) $range.cidr) }}
{{- $wrong = append $wrong (printf "network.pods[%d].cidr is %q: want an IPv4 range, such as 10.128.0.0/14" $i $range.cidr) }}
{{- end }}
{{- end }}
{{- range $i, $range := .Values.network.services }}
{{- if not (regexMatch (include "damask.range" $) $range) }}
{{- $wrong = append $wrong (printf "network.services[%d] is %q: want an IPv4 range, such as 172.30.0.0/16" $i $range) }}
{{- end }}
{{- end }}
{{- range $name, $_ := .Values.nodeGroups }}
{{- if eq $name "default" }}
{{- $wrong = append $wrong "nodeGroups.default: nodes without a group are called that; take another name" }}
{{- else if or (gt (len $name) 40) (not (regexMatch "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$" $name)) }}
{{- $wrong = append $wrong (printf "nodeGroups has %q: a group's name has at most 40 lower-case letters, digits and hyphens" $name) }}
{{- end }}
{{- end }}
{{- if eq .Release.Namespace (include "damask.namespace" .) }}
{{- $wrong = append $wrong (printf "the namespace %s is made by the chart, which Helm cannot do with the namespace that it keeps the release in: install it with --namespace kube-system" .Release.Namespace) }}
{{- end }}
{{- range $process, $added := .Values.config }}
{{- range $field := include "damask.chartsOwn" (list $ $process (printf "config.%s" $process) $added) | splitList "\n" | compact }}
{{- $wrong = append $wrong (printf "%s is written by the chart: it is no value" $field) }}
{{- end }}
{{- end }}
{{- range $name, $group := .Values.nodeGroups }}
{{- range $field := include "damask.chartsOwn" (list $ "nodeagent" (printf "nodeGroups.%s.config" $name) $group.config) | splitList "\n" | compact }}
{{- $wrong = append $wrong (printf "%s is written by the chart: it is no value" $field) }}
{{- end }}
{{- end }}
{{- with $wrong }}
{{- fail (printf "\n\n- %s\n\nvalues.yaml of the chart says what each value is.\n" (join "\n- " .)) }}
{{- end }}
{{- end }}

{{- /* What an IPv4 range looks like. Whether ranges overlap damask-ipam says, which does not start then. */ -}}
{{- define "damask.range" -}}
{{- $byte := "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])" -}}
^{{ $byte }}(\.{{ $byte }}){3}/(3[0-2]|[12]?[0-9])$
{{- end }}

{{- /* The fields of a process's configuration that values say and that the chart writes already, log
apart: (list $ PROCESS WHERE VALUES). */ -}}
{{- define "damask.chartsOwn" -}}
{{- $file := include (printf "damask.file.%s" (index . 1)) (index . 0) | fromYaml }}
{{- include "damask.overlap" (list (index . 2) (omit $file "log") (index . 3 | default dict)) }}
{{- end }}
