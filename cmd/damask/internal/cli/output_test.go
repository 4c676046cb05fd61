package cli

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

func contains(s, part string) bool { return strings.Contains(s, part) }

// observed is the part of test/observed/node.yaml that says what oc prints.
type observed struct {
	Objects struct {
		HostSubnet struct {
			Columns []string `yaml:"columns"`
			Row     []string `yaml:"row"`
		} `yaml:"hostsubnet"`
		NetNamespace struct {
			Columns []string   `yaml:"columns"`
			Rows    [][]string `yaml:"rows"`
		} `yaml:"netnamespace"`
	} `yaml:"objects"`
}

// TestTablesAreAsObserved prints the observed objects and compares header and
// rows with what was observed, cell by cell.
func TestTablesAreAsObserved(t *testing.T) {
	text, err := os.ReadFile("../../../../test/observed/node.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var want observed
	if err := yaml.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	subnet := &ipamv1.HostSubnet{
		Name: "infra.ocp.cn", Host: "infra.ocp.cn", HostIps: []string{"192.168.108.113"},
		Subnets: []string{"10.129.0.0/23"}, EgressIps: []string{"192.168.108.200"},
	}
	var out bytes.Buffer
	if err := show(&out, "table", []*ipamv1.HostSubnet{subnet}, hostSubnets().columns); err != nil {
		t.Fatal(err)
	}
	checkCells(t, out.String(), append([][]string{want.Objects.HostSubnet.Columns}, want.Objects.HostSubnet.Row))

	namespaces := []*tenancyv1.NetNamespace{
		{Name: "default"},
		{Name: "kube-public", Netid: 8583346, EgressIps: []string{"192.168.108.200"}},
		{Name: "kube-system", Netid: 272037},
		{Name: "management-infra", Netid: 2347918},
	}
	out.Reset()
	if err := show(&out, "table", namespaces, netNamespaces().columns); err != nil {
		t.Fatal(err)
	}
	checkCells(t, out.String(), append([][]string{want.Objects.NetNamespace.Columns}, want.Objects.NetNamespace.Rows...))
}

// checkCells compares a table with cells; two spaces or more end a cell.
func checkCells(t *testing.T, table string, want [][]string) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(table, "\n"), "\n")
	if len(lines) != len(want) {
		t.Fatalf("%d lines, want %d:\n%s", len(lines), len(want), table)
	}
	for i, line := range lines {
		var cells []string
		for cell := range strings.SplitSeq(line, "  ") {
			if cell = strings.TrimSpace(cell); cell != "" {
				cells = append(cells, cell)
			}
		}
		if !slices.Equal(cells, want[i]) {
			t.Errorf("line %d has %q, want %q", i+1, cells, want[i])
		}
	}
}

func TestYAMLAndJSONSayTheSame(t *testing.T) {
	items := []*tenancyv1.NetNamespace{
		{Name: "default", Labels: map[string]string{"a": "true", "b": "123", "c": ""}},
		{Name: "shop", Netid: 42, EgressIps: []string{"192.168.108.200"}, Revision: 1 << 60},
	}
	var jsonOut, yamlOut bytes.Buffer
	for f, out := range map[format]*bytes.Buffer{"json": &jsonOut, "yaml": &yamlOut} {
		if err := show(out, f, items, nil); err != nil {
			t.Fatal(err)
		}
	}
	var fromJSON, fromYAML any // JSON is YAML
	if err := yaml.Unmarshal(jsonOut.Bytes(), &fromJSON); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(yamlOut.Bytes(), &fromYAML); err != nil {
		t.Fatal(err)
	}
	one, _ := yaml.Marshal(fromJSON)
	two, _ := yaml.Marshal(fromYAML)
	if !bytes.Equal(one, two) {
		t.Errorf("json says\n%s\nyaml says\n%s", one, two)
	}
	want := `items:
  - name: default
    netname: ""
    netid: 0
    labels:
      a: "true"
      b: "123"
      c: ""
    egressIps: []
    multicastEnabled: false
    egressRouterSources: []
    policyLogDenied: false
    policyLogAllowed: false
    revision: "0"
`
	if !strings.HasPrefix(yamlOut.String(), want) {
		t.Errorf("yaml begins with\n%s\nwant\n%s", yamlOut.String(), want)
	}
	if !contains(jsonOut.String(), `"egressIps": []`) {
		t.Errorf("json:\n%s\nyaml:\n%s", jsonOut.String(), yamlOut.String())
	}
}

func TestAnEmptyListIsAList(t *testing.T) {
	var out bytes.Buffer
	if err := show(&out, "json", []*tenancyv1.Pod{}, nil); err != nil || out.String() != "{\n  \"items\": []\n}\n" {
		t.Errorf("json: %q, %v", out.String(), err)
	}
	out.Reset()
	if err := show(&out, "table", []*tenancyv1.Pod{}, podColumns()); err != nil || strings.TrimSpace(out.String()) != "NAMESPACE   NAME   IP   NODE   NETID" {
		t.Errorf("table: %q, %v", out.String(), err)
	}
}
