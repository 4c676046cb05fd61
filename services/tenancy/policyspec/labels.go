package policyspec

import (
	"fmt"

	"github.com/damask-sdn/damask/services/tenancy/kubesyntax"
	"github.com/damask-sdn/damask/services/tenancy/selector"
)

// selector reads a label selector; one that is there but empty selects
// everything.
func (r *reader) selector(n node) selector.Selector {
	f := r.fields(n, "matchLabels", "matchExpressions")
	var all []selector.Requirement
	r.entries(f["matchLabels"], func(key string, value node) {
		v := r.text(value)
		r.check(value.path, kubesyntax.LabelKey(key))
		r.check(value.path, kubesyntax.LabelValue(v))
		all = append(all, selector.Requirement{Key: key, Operator: selector.In, Values: []string{v}})
	})
	for _, item := range r.items(f["matchExpressions"]) {
		all = append(all, r.requirement(item))
	}
	if r.violations != nil {
		return selector.Selector{}
	}
	return selector.New(all...)
}

func (r *reader) requirement(n node) selector.Requirement {
	f := r.fields(n, "key", "operator", "values")
	q := selector.Requirement{Key: r.text(f["key"]), Operator: selector.Operator(r.text(f["operator"]))}
	r.check(n.path+".key", kubesyntax.LabelKey(q.Key))
	for i, item := range r.items(f["values"]) {
		v := r.text(item)
		r.check(fmt.Sprintf("%s.values[%d]", n.path, i), kubesyntax.LabelValue(v))
		q.Values = append(q.Values, v)
	}
	switch q.Operator {
	case selector.In, selector.NotIn:
		if len(q.Values) == 0 {
			r.refuse(n.path+".values", "must not be empty for the operator %s", q.Operator)
		}
	case selector.Exists, selector.DoesNotExist:
		if len(q.Values) > 0 {
			r.refuse(n.path+".values", "must be empty for the operator %s", q.Operator)
		}
	default:
		r.refuse(n.path+".operator", "%q is not supported: In, NotIn, Exists or DoesNotExist", q.Operator)
	}
	return q
}
