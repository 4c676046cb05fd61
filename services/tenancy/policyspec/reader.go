package policyspec

import (
	"fmt"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// reader walks a manifest and collects what is wrong with it.
type reader struct{ violations []Violation }

func (r *reader) refuse(field, format string, args ...any) {
	r.violations = append(r.violations, Violation{Field: field, Message: fmt.Sprintf(format, args...)})
}

// node is a value in the manifest and where it is.
type node struct {
	*yaml.Node
	path string
}

// absent reports whether the value is not there, or null, which is the same.
func (n node) absent() bool { return n.Node == nil || n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// fields reads an object; what it has besides the known fields is refused. An
// absent object has no fields.
func (r *reader) fields(n node, known ...string) map[string]node {
	found := map[string]node{}
	if n.absent() {
		return found
	}
	if n.Kind != yaml.MappingNode {
		r.refuse(n.path, "must be an object")
		return found
	}
	allowed := map[string]bool{}
	for _, k := range known {
		allowed[k] = true
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i].Value
		value := node{n.Content[i+1], join(n.path, key)}
		switch {
		case seen[key]:
			r.refuse(value.path, "is there twice")
		case !allowed[key]:
			r.refuse(value.path, "is not supported")
		case !value.absent():
			found[key] = value
		}
		seen[key] = true
	}
	return found
}

// entries reads an object whose keys are free, as labels are.
func (r *reader) entries(n node, each func(key string, value node)) {
	if n.absent() {
		return
	}
	if n.Kind != yaml.MappingNode {
		r.refuse(n.path, "must be an object")
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i].Value
		if seen[key] {
			r.refuse(join(n.path, key), "is there twice")
			continue
		}
		seen[key] = true
		each(key, node{n.Content[i+1], join(n.path, key)})
	}
}

// items reads a list.
func (r *reader) items(n node) []node {
	if n.absent() {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		r.refuse(n.path, "must be a list")
		return nil
	}
	all := make([]node, len(n.Content))
	for i, c := range n.Content {
		all[i] = node{c, fmt.Sprintf("%s[%d]", n.path, i)}
	}
	return all
}

// text reads a string; "" when it is absent.
func (r *reader) text(n node) string {
	if n.absent() {
		return ""
	}
	if n.Kind != yaml.ScalarNode || n.Tag != "!!str" {
		r.refuse(n.path, "must be a string")
		return ""
	}
	return n.Value
}

// number reads an integer between low and high.
func (r *reader) number(n node, low, high int64) int64 {
	v, err := strconv.ParseInt(n.Value, 10, 64)
	if n.Kind != yaml.ScalarNode || n.Tag != "!!int" || err != nil || v < low || v > high {
		r.refuse(n.path, "must be a number from %d to %d", low, high)
		return low
	}
	return v
}

// check refuses a value for what a function of kubesyntax has to say of it.
func (r *reader) check(path, problem string) {
	if problem != "" {
		r.refuse(path, "%s", problem)
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
