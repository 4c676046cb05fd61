package chart

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// sized are the containers whose resources are values.
var sized = []string{"nats", "ipam", "tenancy", "servicelb", "egress", "nodeagent", "ovs", "certificates"}

// scaled are the workloads that have one replica on each host of the control plane.
var scaled = []string{"damask-egress", "damask-ipam", "damask-nats", "damask-servicelb", "damask-tenancy"}

// variables are what a ConfigMap has for the environment.
var variables = map[string]string{
	"KUBERNETES_SERVICE_HOST": "{{ $.Values.apiServer.host | quote }}",
	"KUBERNETES_SERVICE_PORT": "{{ $.Values.apiServer.port | quote }}",
}

// insert is a place in the configuration of processes.
type insert struct {
	what    string
	pattern *regexp.Regexp
	to      string
	times   map[string]int // in whose file how often
}

var inserts = []insert{
	{
		what:    "the addresses of a service",
		pattern: regexp.MustCompile(`\["((?:tls://)?)control-1:(\d+)", "(?:tls://)?control-2:\d+", "(?:tls://)?control-3:\d+"\]`),
		to:      `[{{ include "damask.addresses" (list $$ "${1}" ${2}) }}]`,
		times:   map[string]int{"nats": 1, "ipam": 1, "tenancy": 2, "servicelb": 2, "egress": 3, "nodeagent": 5},
	}, {
		what:    "how many servers keep a bucket",
		pattern: regexp.MustCompile(`(?m)^  replicas: 3$`),
		to:      `  replicas: {{ len $$.Values.controlPlane.hosts }}`,
		times:   map[string]int{"ipam": 1, "tenancy": 1, "servicelb": 1, "egress": 1},
	}, {
		what:    "the other servers of the store",
		pattern: regexp.MustCompile(`(?m)^cluster: .*$`),
		to:      "{{- if gt (len $$.Values.controlPlane.hosts) 1 }}\n${0}\n{{- end }}",
		times:   map[string]int{"nats": 1},
	}, {
		what:    "the networks of pods",
		pattern: regexp.MustCompile(`(?m)^  networks:(?:\n  - \{cidr: [0-9./]+, hostSubnetLength: \d+\})+$`),
		to:      "  networks:\n{{- range $$.Values.network.pods }}\n  - {cidr: {{ .cidr }}, hostSubnetLength: {{ .hostSubnetLength }}}\n{{- end }}",
		times:   map[string]int{"ipam": 1},
	}, {
		what:    "the networks of services",
		pattern: regexp.MustCompile(`(?m)^  serviceNetworks: \[[0-9./]+\]$`),
		to:      `  serviceNetworks: [{{ join ", " $$.Values.network.services }}]`,
		times:   map[string]int{"ipam": 1},
	}, {
		what:    "the isolation mode",
		pattern: regexp.MustCompile(`(?m)^initialIsolationMode: \w+$`),
		to:      `initialIsolationMode: {{ $$.Values.network.isolationMode }}`,
		times:   map[string]int{"tenancy": 1},
	},
}

// keep keeps the content of a ConfigMap, as a template of its data, and the files in it.
func (m *maker) keep(name string, object map[string]any) error {
	content, _ := object["data"].(map[string]any)
	var data strings.Builder
	for _, key := range slices.Sorted(maps.Keys(content)) {
		process, isFile := strings.CutSuffix(key, ".yaml")
		switch text, _ := content[key].(string); {
		case isFile:
			file, err := insertAll(process, text)
			if err != nil {
				return err
			}
			if before := m.files[process]; before != "" && before != file {
				return fmt.Errorf("an option changes %s, which templates cannot say", key)
			}
			m.files[process] = file
			fmt.Fprintf(&data, "%s: |\n{{ include \"damask.configuration\" (list $ %q) | indent 2 }}\n", key, process)
		case variables[key] != "":
			m.variables[key] = true
			fmt.Fprintf(&data, "%s: %s\n", key, variables[key])
		default:
			return fmt.Errorf("there is no value for %s", key)
		}
	}
	m.maps[name] = data.String()
	return nil
}

// contents answers the templates of what is in the ConfigMaps.
func (m *maker) contents() []byte {
	out := bytes.NewBufferString(origin)
	fmt.Fprintf(out, "{{- define \"damask.namespace\" }}%s{{ end }}\n", m.namespace)
	for _, name := range slices.Sorted(maps.Keys(m.maps)) {
		fmt.Fprintf(out, "\n{{- define \"damask.data.%s\" -}}\n%s{{- end }}\n", name, m.maps[name])
	}
	for _, process := range slices.Sorted(maps.Keys(m.files)) {
		fmt.Fprintf(out, "\n{{- define \"damask.file.%s\" -}}\n%s{{ end }}\n", process, m.files[process])
	}
	return out.Bytes()
}

// insertAll answers a process's configuration with expressions in all places.
func insertAll(process, text string) (string, error) {
	text = escape(text)
	var wrong []error
	for _, i := range inserts {
		if n := len(i.pattern.FindAllString(text, -1)); n != i.times[process] {
			wrong = append(wrong, fmt.Errorf("%s.yaml has %s %d times, want %d", process, i.what, n, i.times[process]))
		}
		text = i.pattern.ReplaceAllString(text, i.to)
	}
	return text, errors.Join(wrong...)
}

// complete says what the manifests no longer have of what values are for.
func (m *maker) complete() error {
	var wrong []error
	if m.namespace == "" {
		wrong = append(wrong, errors.New("the manifests have no Namespace"))
	}
	slices.Sort(m.replicas)
	if !slices.Equal(m.replicas, scaled) {
		wrong = append(wrong, fmt.Errorf("one replica a host have %v, want %v", m.replicas, scaled))
	}
	for _, name := range sized {
		if m.resources[name] == "" {
			wrong = append(wrong, fmt.Errorf("there is no container %s, whose resources are values", name))
		}
	}
	for _, i := range inserts {
		for process := range i.times {
			if m.files[process] == "" {
				wrong = append(wrong, fmt.Errorf("there is no %s.yaml, for %s", process, i.what))
			}
		}
	}
	for key := range variables {
		if !m.variables[key] {
			wrong = append(wrong, fmt.Errorf("no ConfigMap has %s", key))
		}
	}
	return errors.Join(wrong...)
}
