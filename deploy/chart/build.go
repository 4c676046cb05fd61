package chart

import (
	"fmt"
	"slices"
	"strings"

	"sigs.k8s.io/kustomize/api/hasher"
	kyaml "sigs.k8s.io/kustomize/kyaml/yaml"
	"sigs.k8s.io/yaml"

	"github.com/damask-sdn/damask/deploy/kustomize"
)

// option is a component of the overlay that a value turns on and off.
type option struct {
	value string // in templates
	on    string // the change of the overlay with it; none: it has it
	off   string // the change of the overlay without it
}

// The overlay's components, in the order of its kustomization.yaml.
const (
	ovs = iota
	certificates
	certManager
	takeover
	monitoring
)

var options = []option{
	ovs:          {value: "$.Values.openvswitch.enabled", off: "-../ovs"},
	certificates: {value: "$.Values.certificates.enabled", off: "-../certificates"},
	certManager:  {value: "$.Values.certificates.certManager", on: "../cert-manager"},
	takeover:     {value: "$.Values.takeover.enabled", on: "../takeover"},
	monitoring:   {value: "$.Values.monitoring.enabled", on: "../../monitoring"},
}

// group is the second group of nodes, of which the chart makes any number.
const group = "../group"

// set is a set of options.
type set uint

func of(options ...int) (s set) {
	for _, o := range options {
		s |= 1 << o
	}
	return s
}

func (s set) has(option int) bool { return s&(1<<option) != 0 }

// changes are those of the overlay with these options.
func (s set) changes() []string {
	changes := []string{group}
	for i, o := range options {
		change := o.off
		if s.has(i) {
			change = o.on
		}
		if change != "" {
			changes = append(changes, change)
		}
	}
	return changes
}

// built are the sets of options that the overlay is built with. Those that change the same
// objects are there in each combination, the others alone; without certificates cert-manager has
// no sense. Whether that is enough a test says, which compares all combinations.
var built = []set{
	of(ovs, certificates, monitoring),
	of(ovs, certificates, certManager, monitoring),
	of(ovs, monitoring),
	of(ovs, certificates, takeover, monitoring),
	of(ovs, certificates, certManager, takeover, monitoring),
	of(ovs, takeover, monitoring),
	of(certificates, monitoring),
	of(ovs, certificates),
	of(),
}

// identity is which object it is. The name is without the hash of its content.
type identity struct{ kind, namespace, name string }

func (i identity) String() string {
	return strings.TrimPrefix(fmt.Sprintf("%s/%s %s", i.namespace, i.name, i.kind), "/")
}

// variant is the overlay with some options.
type variant struct {
	options set
	objects []map[string]any
}

// build builds the overlay with each set of options, and marks what values are for.
func (m *maker) build(deploy string) ([]variant, error) {
	var variants []variant
	for _, s := range built {
		texts, err := kustomize.Build(deploy, overlay, s.changes()...)
		if err != nil {
			return nil, err
		}
		v := variant{options: s}
		for _, text := range texts {
			var object map[string]any
			if err := yaml.Unmarshal(text, &object); err != nil {
				return nil, fmt.Errorf("read what kustomize built: %w", err)
			}
			v.objects = append(v.objects, object)
		}
		if err := m.mark(v.objects); err != nil {
			return nil, err
		}
		variants = append(variants, v)
	}
	return variants, nil
}

// identify answers which object it is.
func identify(object map[string]any) identity {
	kind, _ := object["kind"].(string)
	metadata, _ := object["metadata"].(map[string]any)
	namespace, _ := metadata["namespace"].(string)
	name, _ := metadata["name"].(string)
	return identity{kind: kind, namespace: namespace, name: name}
}

// keys are all objects that there are in a variant, in the order of the first that has each.
func keys(variants []variant) (all []identity) {
	for _, v := range variants {
		for _, object := range v.objects {
			if key := identify(object); !slices.Contains(all, key) {
				all = append(all, key)
			}
		}
	}
	return all
}

// text answers an object of a variant as a document in YAML; empty: it has none such.
func (v variant) text(key identity) (string, error) {
	for _, object := range v.objects {
		if identify(object) == key {
			text, err := yaml.Marshal(object)
			return "---\n" + string(text), err
		}
	}
	return "", nil
}

// unhashed answers the name of a ConfigMap without the hash of its content that kustomize
// put after it; false: it has none.
func unhashed(object map[string]any) (string, bool, error) {
	key := identify(object)
	i := strings.LastIndexByte(key.name, '-')
	if key.kind != "ConfigMap" || i < 0 {
		return "", false, nil
	}
	plain := map[string]any{"kind": key.kind, "data": object["data"], "metadata": map[string]any{"name": key.name[:i]}}
	text, err := yaml.Marshal(plain)
	if err != nil {
		return "", false, err
	}
	node, err := kyaml.Parse(string(text))
	if err != nil {
		return "", false, err
	}
	hash, err := (&hasher.Hasher{}).Hash(node)
	return key.name[:i], err == nil && hash == key.name[i+1:], err
}
