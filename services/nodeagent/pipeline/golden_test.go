package pipeline_test

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/damask-sdn/damask/services/nodeagent/openflow"
	"github.com/damask-sdn/damask/services/nodeagent/pipeline"
)

var update = flag.Bool("update", false, "rewrite testdata/*/flows.txt")

// TestFlowsAreAsTheGoldenFilesSay pins every flow. When it fails and the change is
// wanted: raise RuleVersion, tell docs/pipeline.md, and run with -update.
func TestFlowsAreAsTheGoldenFilesSay(t *testing.T) {
	for _, c := range nodeCases() {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join("testdata", c.name, "flows.txt")
			got := goldenText(c.fragments())
			if *update {
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("flows differ from %s:\n%s", path, lineDiff(string(want), got))
			}
		})
	}
}

// goldenText is what `ovs-ofctl add-flows` reads: by table, priority and match,
// with the owner and the meaning of each flow above it.
func goldenText(fragments []pipeline.Fragment) string {
	type owned struct {
		flow  openflow.Flow
		owner string
	}
	var all []owned
	for _, f := range fragments {
		for _, flow := range f.Flows {
			all = append(all, owned{flow, f.Owner})
		}
	}
	slices.SortFunc(all, func(a, b owned) int {
		return cmp.Or(cmp.Compare(a.flow.Table, b.flow.Table), cmp.Compare(b.flow.Priority, a.flow.Priority),
			cmp.Compare(a.flow.String(), b.flow.String()))
	})
	var b strings.Builder
	for _, o := range all {
		fmt.Fprintf(&b, "# %s: %s\n%s\n", o.owner, pipeline.Describe(o.flow), o.flow)
	}
	return b.String()
}

// lineDiff shows lines that only one text has.
func lineDiff(want, got string) string {
	wants, gots := strings.Split(want, "\n"), strings.Split(got, "\n")
	var b strings.Builder
	for _, line := range wants {
		if !slices.Contains(gots, line) {
			b.WriteString("want " + line + "\n")
		}
	}
	for _, line := range gots {
		if !slices.Contains(wants, line) {
			b.WriteString("got  " + line + "\n")
		}
	}
	if b.Len() == 0 {
		return "the lines are the same, their order or number is not"
	}
	return b.String()
}

// TestEveryMeaningIsOfAFlowThatExists keeps meanings, and with them the docs, from
// telling of flows that are gone.
func TestEveryMeaningIsOfAFlowThatExists(t *testing.T) {
	var flows []openflow.Flow
	for _, c := range nodeCases() {
		for _, f := range c.fragments() {
			flows = append(flows, f.Flows...)
		}
	}
	for _, shape := range pipeline.UnusedMeanings(flows) {
		t.Errorf("no case has a flow of this shape: %s", shape)
	}
}
