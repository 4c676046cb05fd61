package cli

import (
	"os"
	"path/filepath"
	"testing"
)

// TestAdoptCheckFailsWhenSomethingWouldBeLost needs no cluster: objects are files.
func TestAdoptCheckFailsWhenSomethingWouldBeLost(t *testing.T) {
	const plan = "{kind: ClusterNetwork, metadata: {name: default}, serviceNetwork: 172.30.0.0/16, pluginName: redhat/openshift-ovs-multitenant, clusterNetworks: [{CIDR: 10.128.0.0/14, hostSubnetLength: 9}]}\n"
	for name, c := range map[string]struct {
		text string
		code int
	}{
		"kept":     {plan, 0},
		"lost":     {plan + "---\n{kind: NetNamespace, metadata: {name: n}, netname: n, netid: 5}\n", 1},
		"no plan":  {"kind: List\nitems: []\n", 1},
		"no yaml":  {"kind: [", 1},
		"no kinds": {"a: b", 1},
	} {
		file := filepath.Join(t.TempDir(), "cluster.yaml")
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, format := range formats() {
			if code := execute(nil, []string{"adopt", "check", "-f", file, "-o", format}); code != c.code {
				t.Errorf("%s, as %s: exit code %d, want %d", name, format, code, c.code)
			}
		}
	}
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	if code := execute(nil, []string{"adopt", "check"}); code != 1 {
		t.Error("a check of nothing succeeds")
	}
	if code := execute(nil, []string{"adopt", "check", "-f", filepath.Join(t.TempDir(), "nothing")}); code != 1 {
		t.Error("a check of a file that is not there succeeds")
	}
}
