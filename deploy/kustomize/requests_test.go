package kustomize

import (
	"os"
	"regexp"
	"strconv"
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"
)

// asked is a row of the README's table: a container, what it measured in MiB if somebody has,
// and what is asked of the scheduler for it.
var asked = regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\| ?([0-9]*) \\|.*\\| ([0-9]+m), ([0-9]+Mi) \\|$")

// TestRequestsAreThoseOfTheTable: the table has each container, and none asks for less than it
// measured.
func TestRequestsAreThoseOfTheTable(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	type row struct {
		measured    int64
		cpu, memory string
	}
	table := map[string]row{}
	for _, cells := range asked.FindAllStringSubmatch(string(readme), -1) {
		measured, err := strconv.ParseInt("0"+cells[2], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		table[cells[1]] = row{measured, cells[3], cells[4]}
	}
	unseen := map[string]bool{}
	for name := range table {
		unseen[name] = true
	}
	each(t, func(t *testing.T, objects []object) {
		workloads(t, objects, func(t *testing.T, _ object, p pod) {
			for _, c := range p.Containers {
				want, known := table[c.Name]
				if has := c.Resources.Requests; !known || has["cpu"] != want.cpu || has["memory"] != want.memory {
					t.Errorf("%s requests %v, and the table says %+v", c.Name, has, want)
				}
				memory, err := resource.ParseQuantity(c.Resources.Requests["memory"])
				if err != nil || memory.Value() < want.measured<<20 {
					t.Errorf("%s requests %v (%v), and measured %d MiB", c.Name, &memory, err, want.measured)
				}
				delete(unseen, c.Name)
			}
		})
	})
	if len(unseen) > 0 {
		t.Errorf("the table has what no overlay has: %v", unseen)
	}
}
