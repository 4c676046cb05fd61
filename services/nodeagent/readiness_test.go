package nodeagent

import (
	"slices"
	"testing"

	"github.com/hashicorp/go-hclog"
)

func TestWhoAsksForReadinessIsToldWhatIsMissing(t *testing.T) {
	told := 0
	p := &plumbing{log: hclog.NewNullLogger(), missing: []string{"a subnet"}, changed: func() { told++ }}
	for _, step := range []struct {
		missing []string
		health  string
		told    int
	}{
		{[]string{"a subnet"}, "a subnet", 0},
		{[]string{"a subnet", "OVSDB"}, "a subnet; OVSDB", 1},
		{nil, "", 2},
		{nil, "", 2},
		{[]string{"OVSDB"}, "OVSDB", 3},
	} {
		p.notReady(step.missing...)
		health := ""
		if err := p.health(); err != nil {
			health = err.Error()
		}
		if health != step.health || told != step.told || !slices.Equal(p.readiness().Missing, step.missing) {
			t.Errorf("missing %q: health is %q, told %d times, Kubernetes is told %q", step.missing, health, told, p.readiness().Missing)
		}
	}
}
