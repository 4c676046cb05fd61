package topology

import (
	"maps"
	"slices"

	"github.com/damask-sdn/damask/cmd/damask/internal/syntax"
)

// name checks a name and, where seen is given, that it comes once.
func (c *checker) name(path, name string, rule syntax.Rule, seen map[string]bool) {
	switch {
	case name == "":
		c.Addf(path, "required")
	case !rule.Fits(name):
		c.Addf(path, "%q is not %s", name, rule.Words())
	case seen[name]:
		c.Addf(path, "%q comes twice", name)
	case seen != nil:
		seen[name] = true
	}
}

func (c *checker) labels(path string, labels map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		if reason := syntax.CheckLabel(key, labels[key]); reason != "" {
			c.Addf(path+"."+key, "%s", reason)
		}
	}
}
