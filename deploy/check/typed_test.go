package check

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// observed is the part of test/observed/node.yaml that says what administrators typed, and
// what they saw.
type observed struct {
	Objects struct {
		HostSubnet   struct{ Columns, Row []string }
		NetNamespace struct {
			Columns []string
			Rows    [][]any
		}
		Commands []string
	}
}

func readObserved(t *testing.T) (o observed) {
	t.Helper()
	text, err := os.ReadFile("../../test/observed/node.yaml")
	if err == nil {
		err = yaml.Unmarshal(text, &o)
	}
	if err != nil || len(o.Objects.Commands) == 0 {
		t.Fatalf("what was observed: %+v, %v", o, err)
	}
	return o
}

// TestWhatWasTypedIsTypedUnchanged types the commands that were seen on a real cluster, word
// for word, with kubectl in oc's place and the preferences that are shipped for it.
func TestWhatWasTypedIsTypedUnchanged(t *testing.T) {
	s := start(t)
	o := readObserved(t)
	node := o.Objects.HostSubnet.Row
	s.Apply(t, fmt.Sprintf("{apiVersion: network.openshift.io/v1, kind: HostSubnet, metadata: {name: %s}, host: %s, hostIP: %s, subnet: %s}", node[0], node[1], node[2], node[3]))
	for _, row := range o.Objects.NetNamespace.Rows {
		s.Apply(t, fmt.Sprintf("{apiVersion: network.openshift.io/v1, kind: NetNamespace, metadata: {name: %s}, netname: %[1]s, netid: %v}", row[0], row[1]))
	}
	kubectl := s.Command()
	bin := t.TempDir()
	if err := os.Symlink(kubectl.Path, filepath.Join(bin, "oc")); err != nil {
		t.Fatal(err)
	}
	said := map[string]string{}
	for _, command := range o.Objects.Commands {
		shell := exec.Command("sh", "-c", command)
		shell.Env = append(kubectl.Env, "KUBERC=../kuberc.yaml", "PATH="+bin+":"+os.Getenv("PATH"))
		out, err := shell.CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", command, err, out)
		}
		said[command] = string(out)
	}
	shows(t, said["oc get hostsubnets"], o.Objects.HostSubnet.Columns, node[0], node[len(node)-1])
	shows(t, said["oc get netnamespaces"], o.Objects.NetNamespace.Columns, "kube-public", node[len(node)-1])
}

// shows holds a table against its columns and the first and last field of a row.
func shows(t *testing.T, table string, columns []string, name, ips string) {
	t.Helper()
	header, rows, _ := strings.Cut(table, "\n")
	if want := strings.Join(columns, " "); strings.Join(strings.Fields(header), " ") != want {
		t.Errorf("the columns are %q, want %q", header, want)
	}
	for line := range strings.Lines(rows) {
		if fields := strings.Fields(line); len(fields) > 0 && fields[0] == name {
			if got := strings.ReplaceAll(fields[len(fields)-1], `"`, ""); got != ips {
				t.Errorf("%s has the egress IPs %s, want %s", name, got, ips)
			}
			return
		}
	}
	t.Errorf("%s is not in\n%s", name, table)
}
