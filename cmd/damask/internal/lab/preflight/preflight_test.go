package preflight

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestEverythingThatIsMissingIsNamedInOneSentence(t *testing.T) {
	if os.Getuid() != 0 {
		if err := Check("/nonexistent"); err == nil || !strings.Contains(err.Error(), "root") {
			t.Errorf("got %v, want it to ask for root", err)
		}
		t.Skip("the rest needs root")
	}
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	install := func(names ...string) {
		t.Helper()
		for _, name := range names {
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	check := func(want string) {
		t.Helper()
		if err := Check(dir); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	check("ovsdb-server, ovs-vswitchd, ovsdb-tool, ovs-vsctl, iptables, nft")
	check("apt-get install openvswitch-switch openvswitch-common iptables nftables")
	install("ovsdb-server", "ovs-vswitchd", "ovsdb-tool", "ovs-vsctl", "iptables")
	check("not installed, or not in PATH: nft (")
	install("nft")
	check("not built: damask-nats, damask-ipam, damask-tenancy, damask-servicelb, damask-egress, damask-nodeagent, damask-cni should be in " + dir)
	install(damask()...)
	if err := Check(dir); err != nil {
		t.Errorf("with everything in place: %v", err)
	}
}
