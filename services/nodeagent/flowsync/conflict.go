package flowsync

import (
	"errors"
	"fmt"
	"strings"

	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

// check looks for everything that is wrong with changes by themselves.
func check(changes []Change) error {
	var problems []error
	owners := make(map[string]bool, len(changes))
	for _, c := range changes {
		if owners[c.Owner] {
			problems = append(problems, fmt.Errorf("owner %q is changed twice", c.Owner))
		}
		owners[c.Owner] = true
		for _, f := range c.Flows {
			if err := f.Check(); err != nil {
				problems = append(problems, fmt.Errorf("owner %q: %w", c.Owner, err))
			}
		}
	}
	return errors.Join(problems...)
}

// A ConflictError says that two owners want the same table, priority and match. Nothing was changed.
type ConflictError struct{ Conflicts []Conflict }

// A Conflict is one flow that two owners want.
type Conflict struct {
	Key    openflow.Key
	Owners [2]string // The same twice when an owner wants it twice.
}

// shownConflicts bounds the length of an error's text.
const shownConflicts = 10

// Error names the owners of each flow, of the first ten flows.
func (e *ConflictError) Error() string {
	var texts []string
	for _, c := range e.Conflicts[:min(shownConflicts, len(e.Conflicts))] {
		texts = append(texts, fmt.Sprintf("%q and %q both want %q", c.Owners[0], c.Owners[1], c.Key))
	}
	if more := len(e.Conflicts) - shownConflicts; more > 0 {
		texts = append(texts, fmt.Sprintf("and %d more", more))
	}
	return "flows conflict: " + strings.Join(texts, "; ")
}

// conflicts looks for flows that an owner in changes wants together with another owner.
func (t *table) conflicts(changes []Change) error {
	total := 0
	changing := make(map[string]bool, len(changes))
	for _, c := range changes {
		total += len(c.Flows)
		changing[c.Owner] = true
	}
	var found []Conflict
	claimed := make(map[openflow.Key]string, total)
	for _, c := range changes {
		for _, f := range c.Flows {
			key := f.Key()
			if other, taken := claimed[key]; taken {
				found = append(found, Conflict{Key: key, Owners: [2]string{other, c.Owner}})
				continue
			}
			claimed[key] = c.Owner
			if r := t.records[key]; r != nil && r.owner != nil && !changing[r.owner.name] {
				found = append(found, Conflict{Key: key, Owners: [2]string{r.owner.name, c.Owner}})
			}
		}
	}
	if found == nil {
		return nil
	}
	return &ConflictError{Conflicts: found}
}
