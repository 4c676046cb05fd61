package nodeagent

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/hashicorp/go-hclog"
)

// zoned is the zone of a node that starts, and what is told of it from then on.
func zoned(t *testing.T, cfg Config) (z *zone, told *[]string) {
	t.Helper()
	z, err := newZone(cfg, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	told = &[]string{}
	z.changed = append(z.changed, func(name string) { *told = append(*told, name) })
	return z, told
}

func TestANodesZoneIsWhatItsNodeSaidLast(t *testing.T) {
	cfg := Config{StateDir: t.TempDir(), Kubernetes: Kubernetes{Enabled: true}}
	z, told := zoned(t, cfg)
	if z.get() != "" {
		t.Errorf("before anything was heard it is %q", z.get())
	}
	for _, name := range []string{"", "west", "west", "", "east"} {
		z.heard(name)
		if again, _ := zoned(t, cfg); z.get() != name || again.get() != name {
			t.Errorf("after %q it is %q, and %q after a restart", name, z.get(), again.get())
		}
	}
	if want := []string{"west", "", "east"}; !slices.Equal(*told, want) {
		t.Errorf("told were %q, want %q", *told, want)
	}
	if err := os.WriteFile(filepath.Join(cfg.StateDir, "zone"), []byte("no\x00label"), 0o600); err != nil {
		t.Fatal(err)
	}
	if z, _ := zoned(t, cfg); z.get() != "" {
		t.Errorf("of a damaged file it is %q", z.get())
	}
}

func TestAConfiguredZoneStays(t *testing.T) {
	z, told := zoned(t, Config{StateDir: t.TempDir(), Kubernetes: Kubernetes{Enabled: true}, Services: Services{Zone: "west"}})
	z.heard("east")
	if z.get() != "west" || len(*told) > 0 {
		t.Errorf("it is %q, and told were %q", z.get(), *told)
	}
	plain, _ := zoned(t, Config{StateDir: t.TempDir()})
	if plain.heard("east"); plain.get() != "" {
		t.Errorf("without Kubernetes it is %q", plain.get())
	}
}
