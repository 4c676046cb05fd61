package server

import (
	"fmt"
	"maps"
	"slices"

	"github.com/damask-sdn/damask/internal/rpcerr"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/kubesyntax"
	"github.com/damask-sdn/damask/services/tenancy/labels"
	"github.com/damask-sdn/damask/services/tenancy/netnamespace"
)

func checkLabels(v *rpcerr.Violations, field string, given map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(given)) {
		if problem := kubesyntax.LabelKey(key); problem != "" {
			v.Addf(field, "%s", problem)
		}
		if problem := kubesyntax.LabelValue(given[key]); problem != "" {
			v.Addf(fmt.Sprintf("%s[%s]", field, key), "%s", problem)
		}
	}
	if size := labels.Size(given); size > labels.MaxBytes {
		v.Addf(field, "%d bytes in all, at most %d are allowed", size, labels.MaxBytes)
	}
}

// checkLabelChange reads what changes.
func checkLabelChange(v *rpcerr.Violations, set map[string]string, remove []string) labels.Change {
	checkLabels(v, "set", set)
	for i, key := range remove {
		field := fmt.Sprintf("remove[%d]", i)
		if problem := kubesyntax.LabelKey(key); problem != "" {
			v.Addf(field, "%s", problem)
		}
		if _, both := set[key]; both {
			v.Addf(field, "%s is in set too", key)
		}
	}
	return labels.Change{Set: set, Remove: remove}
}

func parseNamespaceLabels(r *tenancyv1.UpdateNetNamespaceLabelsRequest) (labels.Change, error) {
	var v rpcerr.Violations
	checkNamespace(&v, "name", r.GetName())
	change := checkLabelChange(&v, r.GetSet(), r.GetRemove())
	if given, ok := r.GetSet()[netnamespace.NameLabel]; ok && given != r.GetName() {
		v.Addf("set", "%s must be the namespace's name, is %q", netnamespace.NameLabel, given)
	}
	if slices.Contains(r.GetRemove(), netnamespace.NameLabel) {
		v.Addf("remove", "%s cannot go", netnamespace.NameLabel)
	}
	return change, v.Err(Domain)
}

func parsePodLabels(r *tenancyv1.UpdatePodLabelsRequest) (labels.Change, error) {
	var v rpcerr.Violations
	checkNamespace(&v, "namespace", r.GetNamespace())
	checkSubdomain(&v, "name", r.GetName())
	change := checkLabelChange(&v, r.GetSet(), r.GetRemove())
	if r.GetSandboxId() != "" {
		checkSandbox(&v, "sandbox_id", r.GetSandboxId())
	}
	return change, v.Err(Domain)
}
