package openshift

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// refusals are the kinds that could not be read.
type refusals struct {
	missing   []kind
	forbidden []kind
	user      string // what the API server said first, which has the user
}

// take says whether an error was one of those that are told together.
func (r *refusals) take(k kind, err error) bool {
	switch {
	case apierrors.IsNotFound(err):
		r.missing = append(r.missing, k)
	case apierrors.IsForbidden(err):
		r.forbidden = append(r.forbidden, k)
		if r.user == "" {
			r.user = err.Error()
		}
	default:
		return false
	}
	return true
}

// err answers what was refused, all of it.
func (r *refusals) err(server string) error {
	var problems []error
	if len(r.missing) > 0 {
		names := make([]string, len(r.missing))
		for i, k := range r.missing {
			names[i] = k.name
		}
		problems = append(problems, fmt.Errorf("this is not an OpenShift SDN cluster: the API server at %s has no %s", server, strings.Join(names, ", ")))
	}
	if len(r.forbidden) > 0 {
		problems = append(problems, fmt.Errorf("not everything may be read (%s): it takes a ClusterRole with the rules\n%s", r.user, rules(r.forbidden, "list")))
	}
	return errors.Join(problems...)
}

// rules are the rules of a ClusterRole that allow something of kinds.
func rules(of []kind, verbs ...string) string {
	var groups []string
	resources := map[string][]string{}
	for _, k := range of {
		group := k.resource.Group
		if !slices.Contains(groups, group) {
			groups = append(groups, group)
		}
		resources[group] = append(resources[group], k.resource.Resource)
	}
	lines := make([]string, len(groups))
	for i, group := range groups {
		if lines[i] = group; group == "" {
			lines[i] = `""`
		}
		lines[i] = fmt.Sprintf("  - {apiGroups: [%s], resources: [%s], verbs: [%s]}", lines[i], strings.Join(resources[group], ", "), strings.Join(verbs, ", "))
	}
	return strings.Join(lines, "\n")
}
