package repocheck

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const modulePath = "github.com/damask-sdn/damask/"

// requirement is a line of a go.mod.
type requirement struct{ module, path, version string }

func modules(t *testing.T) []string {
	t.Helper()
	var dirs []string
	for _, pattern := range []string{"*/go.mod", "services/*/go.mod", "test/*/go.mod"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			dirs = append(dirs, filepath.Dir(f))
		}
	}
	return dirs
}

func requirements(t *testing.T, dir string) []requirement {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	module, err := filepath.Rel(root, dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []requirement
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require "))
		if len(fields) >= 2 && strings.HasPrefix(fields[1], "v") && strings.Contains(fields[0], ".") {
			list = append(list, requirement{module, fields[0], fields[1]})
		}
	}
	return list
}

func TestModulesAgreeOnVersions(t *testing.T) {
	seen := map[string]requirement{}
	for _, dir := range modules(t) {
		if base := filepath.Base(dir); base == "tools" || base == "policyoracle" || base == "kubernetes" {
			continue // tools, oracles and what the product runs beside are not part of it
		}
		for _, r := range requirements(t, dir) {
			if first, ok := seen[r.path]; ok && first.version != r.version {
				t.Errorf("%s: %s in %s, %s in %s", r.path, first.version, first.module, r.version, r.module)
			}
			seen[r.path] = r
		}
	}
}

// mayUse says which of our own modules each module may depend on. A service
// depends on another's proto, never on its code; only the tests see several.
var mayUse = map[string][]string{
	"proto":              {},
	"internal":           {"proto"},
	"cmd":                {"proto", "internal"},
	"services/ipam":      {"proto", "internal"},
	"services/tenancy":   {"proto", "internal"},
	"services/servicelb": {"proto", "internal"},
	"services/egress":    {"proto", "internal"},
	"services/nodeagent": {"proto", "internal"},
	"test":               {"proto", "internal", "services/nodeagent"},
	"test/policyoracle":  {"internal", "services/tenancy"},
	"deploy":             {"internal"}, // for its tests: an API server
	"test/kubernetes":    {},
	"tools":              {},
}

func TestModulesDependOnNobodyTheyMustNot(t *testing.T) {
	for _, dir := range modules(t) {
		module, err := filepath.Rel(root, dir)
		if err != nil {
			t.Fatal(err)
		}
		allowed, known := mayUse[module]
		if !known {
			t.Errorf("%s: a new module needs a decision record and a line here", module)
		}
		for _, r := range requirements(t, dir) {
			own, ours := strings.CutPrefix(r.path, modulePath)
			if !ours {
				continue
			}
			ok := false
			for _, a := range allowed {
				ok = ok || a == own
			}
			if !ok {
				t.Errorf("%s must not depend on %s", module, own)
			}
		}
	}
}

// forbidden names what a service has no business with: a control service that
// could touch links or Open vSwitch would sooner or later do so.
var forbidden = map[string][]string{
	"services/ipam":      {"vishvananda/netlink", "ovn-org/libovsdb", "coreos/go-iptables"},
	"services/tenancy":   {"vishvananda/netlink", "ovn-org/libovsdb", "coreos/go-iptables"},
	"services/servicelb": {"vishvananda/netlink", "ovn-org/libovsdb", "coreos/go-iptables"},
	"services/egress":    {"vishvananda/netlink", "ovn-org/libovsdb", "coreos/go-iptables"},
}

func TestControlServicesTouchNoNode(t *testing.T) {
	for module, banned := range forbidden {
		for _, r := range requirements(t, filepath.Join(root, module)) {
			for _, b := range banned {
				if strings.Contains(r.path, b) {
					t.Errorf("%s depends on %s", module, r.path)
				}
			}
		}
	}
}
