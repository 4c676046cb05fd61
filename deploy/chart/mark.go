package chart

import (
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// example is what the group of nodes is called that the manifests have.
const example = "infra"

// maker turns objects into templates. Places for values are marked in the objects, where
// it is known what is what; once all variants of an object are one text the marks become
// expressions.
type maker struct {
	names     map[identity]string // of marked objects, for people
	maps      map[string]string   // the data of ConfigMaps whose names have a hash, as templates
	files     map[string]string   // the configurations of processes, as templates
	variables map[string]bool     // which of an environment's there are
	resources map[string]string   // of each container whose figures are values, in JSON
	replicas  []string            // the workloads that have as many as there are hosts
	namespace string
}

func newMaker() *maker {
	return &maker{
		names: map[identity]string{}, maps: map[string]string{}, files: map[string]string{},
		variables: map[string]bool{}, resources: map[string]string{},
	}
}

// What stands in an object for an expression.
const (
	groupMark     = "__group__"     // a group's name within a text
	labelMark     = "__label__"     // the same, alone
	groupNameMark = "__groupName__" // of a group's ConfigMap
	groupDataMark = "__groupData__" // what is in it
	aliasesMark   = "__aliases__"
	secretsMark   = "__secrets__"
	replicasMark  = "__replicas__"
	imageMark     = "__image_%s__"     // of a program
	nameMark      = "__name_%s__"      // of a ConfigMap with a hash
	dataMark      = "__data_%s__"      // what is in it
	resourcesMark = "__resources_%s__" // of a container
)

// mark marks the places in all objects of a variant.
func (m *maker) mark(objects []map[string]any) error {
	hashed := map[string]string{} // a ConfigMap's name, and what stands for it
	for _, object := range objects {
		key := identify(object)
		name, found, err := unhashed(object)
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		if !found {
			continue
		}
		if name == "damask-nodeagent-"+example {
			hashed[key.name] = groupNameMark
			object["data"] = groupDataMark
			continue
		}
		hashed[key.name] = fmt.Sprintf(nameMark, name)
		if err := m.keep(name, object); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		object["data"] = fmt.Sprintf(dataMark, name)
	}
	for _, object := range objects {
		key := identify(object)
		if err := m.object(object, hashed); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		m.names[identify(object)] = key.name
		if name, ok := hashed[key.name]; ok {
			m.names[identify(object)] = strings.TrimSuffix(strings.TrimPrefix(name, "__name_"), "__")
		}
		if inGroup(object) {
			m.names[identify(object)] = "damask-nodeagent-group"
		}
	}
	return nil
}

// object marks what there is in an object.
func (m *maker) object(object map[string]any, hashed map[string]string) error {
	key := identify(object)
	if key.kind == "Namespace" {
		m.namespace = key.name
	}
	if kept(key) {
		annotate(object, "helm.sh/resource-policy", "keep")
	}
	if spec, ok := dig(object, "spec", "template", "spec"); ok {
		if err := m.pod(spec); err != nil {
			return err
		}
	}
	if err := m.scale(key, object); err != nil {
		return err
	}
	ofGroup := inGroup(object)
	rewrite(object, func(text string) string {
		if mark, ok := hashed[text]; ok {
			return mark
		}
		if !ofGroup {
			return text
		}
		if text == example {
			return labelMark
		}
		return strings.ReplaceAll(text, "-"+example, "-"+groupMark)
	})
	return nil
}

// inGroup: the object is of the manifests' second group of nodes.
func inGroup(object map[string]any) bool {
	labels, _ := dig(object, "metadata", "labels")
	name := labels["damask.io/node-group"]
	return name == example || name == labelMark
}

// kept: Helm never deletes the object. With the definitions everybody's objects would go, and
// with the Namespace the CA and the Secrets that others made. Nodes' Open vSwitch reads what it
// read before until its pod is deleted, also after the node was started again.
func kept(key identity) bool {
	return key.kind == "CustomResourceDefinition" || key.kind == "Namespace" ||
		key.kind == "ConfigMap" && strings.HasPrefix(key.name, "damask-ovs-")
}

func annotate(object map[string]any, key, value string) {
	metadata := object["metadata"].(map[string]any)
	annotations, ok := metadata["annotations"].(map[string]any)
	if !ok {
		annotations = map[string]any{}
		metadata["annotations"] = annotations
	}
	annotations[key] = value
}

// scale marks the replicas of what runs on each host of the control plane.
func (m *maker) scale(key identity, object map[string]any) error {
	spec, _ := object["spec"].(map[string]any)
	switch count := spec["replicas"]; count {
	case nil, 1.0:
		return nil
	case 3.0:
		spec["replicas"] = replicasMark
		if !slices.Contains(m.replicas, key.name) {
			m.replicas = append(m.replicas, key.name)
		}
		return nil
	default:
		return fmt.Errorf("it has %v replicas, want 1 or one for each of three hosts", count)
	}
}

// imageName is an image as the manifests name it.
var imageName = regexp.MustCompile(`^localhost/(damask-[a-z-]+):dev$`)

// pod marks what a pod has of values: where the control plane is, images, and resources.
func (m *maker) pod(spec map[string]any) error {
	var aliases []any
	for i := range 3 {
		aliases = append(aliases, map[string]any{"ip": fmt.Sprintf("192.0.2.%d", i+1), "hostnames": []any{fmt.Sprintf("control-%d", i+1)}})
	}
	if !reflect.DeepEqual(spec["hostAliases"], any(aliases)) {
		return fmt.Errorf("its hosts are %v, want %v", spec["hostAliases"], aliases)
	}
	spec["hostAliases"] = aliasesMark
	if _, ok := spec["imagePullSecrets"]; ok {
		return fmt.Errorf("it has imagePullSecrets, which are a value of the chart")
	}
	spec["imagePullSecrets"] = secretsMark
	for _, list := range []string{"initContainers", "containers"} {
		containers, _ := spec[list].([]any)
		for _, c := range containers {
			if err := m.container(c.(map[string]any)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *maker) container(c map[string]any) error {
	name, _ := c["name"].(string)
	image, _ := c["image"].(string)
	match := imageName.FindStringSubmatch(image)
	if match == nil {
		return fmt.Errorf("container %s: the image is %q, want localhost/damask-NAME:dev", name, image)
	}
	c["image"] = fmt.Sprintf(imageMark, match[1])
	if !slices.Contains(sized, name) {
		return nil
	}
	figures, err := json.Marshal(c["resources"])
	if err != nil {
		return err
	}
	if before, ok := m.resources[name]; ok && before != string(figures) {
		return fmt.Errorf("container %s: it has the resources %s, and another of its name %s", name, figures, before)
	}
	m.resources[name] = string(figures)
	c["resources"] = fmt.Sprintf(resourcesMark, name)
	return nil
}

// dig answers a map within maps.
func dig(object map[string]any, path ...string) (map[string]any, bool) {
	for _, key := range path {
		next, ok := object[key].(map[string]any)
		if !ok {
			return nil, false
		}
		object = next
	}
	return object, true
}

// rewrite changes the texts in an object; keys stay.
func rewrite(value any, change func(string) string) any {
	switch value := value.(type) {
	case map[string]any:
		for key, v := range value {
			value[key] = rewrite(v, change)
		}
	case []any:
		for i, v := range value {
			value[i] = rewrite(v, change)
		}
	case string:
		return change(value)
	}
	return value
}
