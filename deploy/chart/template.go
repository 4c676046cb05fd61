package chart

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
)

// escape answers a text that a template has as it is.
func escape(text string) string { return strings.ReplaceAll(text, "{{", `{{ "{{" }}`) }

// template answers lines with conditions as a template, in which the marks have become
// expressions.
func (m *maker) template(lines []conditional) ([]byte, error) {
	var out bytes.Buffer
	var when condition
	var before string
	ofGroup := false
	turn := func(next condition) error {
		if next == when {
			return nil
		}
		if before != "" && strings.TrimSpace(before) == "" || strings.HasSuffix(before, " \n") {
			return fmt.Errorf("white space before a condition, which the template would not keep: %q", before)
		}
		if when != "" {
			out.WriteString("{{- end }}\n")
		}
		if next != "" {
			fmt.Fprintf(&out, "{{- if %s }}\n", next)
		}
		when = next
		return nil
	}
	for _, l := range lines {
		if err := turn(l.when); err != nil {
			return nil, err
		}
		text, err := m.expand(escape(l.text))
		if err != nil {
			return nil, err
		}
		ofGroup = ofGroup || strings.Contains(l.text, labelMark)
		out.WriteString(text)
		before = l.text
	}
	if err := turn(""); err != nil {
		return nil, err
	}
	if ofGroup {
		return []byte(eachGroup + out.String() + "{{- end }}\n"), nil
	}
	return out.Bytes(), nil
}

// eachGroup begins what there is once for each group of nodes. $own are the values with the
// group's configuration in the agent's place.
const eachGroup = `{{- range $name, $group := $.Values.nodeGroups }}
{{- $own := dict "Values" (deepCopy $.Values) }}
{{- include "damask.merge" (list $own.Values (dict "config" (dict "nodeagent" ($group.config | default dict)))) }}
`

// aMark is a mark in a line, with what is before it.
var aMark = regexp.MustCompile(`__([a-zA-Z]+)(?:_([a-z0-9-]+))?__`)

// secretsLines are there only if there is something in them.
const secretsLines = `{{- with $.Values.images.pullSecrets }}
%[1]simagePullSecrets:
{{- range . }}
%[1]s- name: {{ . | quote }}
{{- end }}
{{- end }}
`

// expand makes expressions of the marks in a line.
func (m *maker) expand(text string) (string, error) {
	indent := len(text) - len(strings.TrimLeft(text, " -"))
	if strings.Contains(text, secretsMark) {
		return fmt.Sprintf(secretsLines, strings.Repeat(" ", indent)), nil
	}
	var err error
	text = aMark.ReplaceAllStringFunc(text, func(mark string) string {
		match := aMark.FindStringSubmatch(mark)
		e, is := m.expression(match[1], match[2])
		if !is {
			err = fmt.Errorf("nobody knows the mark %s", mark)
		}
		if e.block {
			return fmt.Sprintf("{{- %s | nindent %d }}", e.code, indent+2)
		}
		return "{{ " + e.code + " }}"
	})
	return text, err
}

// code is an expression; block: it is several lines, which are indented.
type code struct {
	code  string
	block bool
}

// expression answers what a mark is.
func (m *maker) expression(mark, of string) (code, bool) {
	switch mark {
	case "group":
		return code{code: "$name"}, true
	case "label":
		return code{code: "$name | quote"}, true
	case "groupName":
		return code{code: `include "damask.name" (list $own "damask-nodeagent" (printf "damask-nodeagent-%s" $name))`}, true
	case "groupData":
		return code{code: `include "damask.data.damask-nodeagent" $own`, block: true}, true
	case "aliases":
		return code{code: `include "damask.hostAliases" $`, block: true}, true
	case "replicas":
		return code{code: "len $.Values.controlPlane.hosts"}, true
	case "image":
		return code{code: fmt.Sprintf(`include "damask.image" (list $ %q)`, of)}, true
	case "name":
		return code{code: fmt.Sprintf(`include "damask.name" (list $ %q %[1]q)`, of)}, true
	case "data":
		return code{code: fmt.Sprintf(`include "damask.data.%s" $`, of), block: true}, true
	case "resources":
		return code{code: fmt.Sprintf("include \"damask.resources\" (list $.Values.resources.%s (fromJson `%s`))", of, m.resources[of]), block: true}, true
	}
	return code{}, false
}
