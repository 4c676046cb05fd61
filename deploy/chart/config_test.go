package chart

import (
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"testing"

	"pgregory.net/rapid"
	sigsyaml "sigs.k8s.io/yaml"
)

// anything is what a field of a configuration may be.
func anything(depth int) *rapid.Generator[any] {
	leaves := []*rapid.Generator[any]{
		rapid.Map(rapid.String(), func(s string) any { return s }),
		rapid.Map(rapid.StringOfN(rapid.SampledFrom([]rune("a \n\t#:'\"{}|-\u0085\u2028\u2029")), 0, 12, -1), func(s string) any { return s }),
		rapid.Map(rapid.Bool(), func(b bool) any { return b }),
		rapid.Map(rapid.IntRange(-1<<40, 1<<40), func(i int) any { return float64(i) }),
	}
	if depth > 0 {
		leaves = append(leaves,
			rapid.Map(rapid.SliceOfN(anything(depth-1), 0, 3), func(list []any) any { return list }),
			rapid.Map(rapid.MapOfN(rapid.String(), anything(depth-1), 0, 3), func(fields map[string]any) any { return fields }))
	}
	return rapid.OneOf(leaves...)
}

// inYAML: YAML can have it.
func inYAML(value any) bool {
	text, err := sigsyaml.Marshal(value)
	if err != nil {
		return false
	}
	var read any
	return sigsyaml.Unmarshal(text, &read) == nil && reflect.DeepEqual(read, value)
}

// TestWhateverIsAddedToAFileIsInIt, also what templates and YAML have another use for; and what
// was in the file is in it still.
func TestWhateverIsAddedToAFileIsInIt(t *testing.T) {
	plain, err := render(t, overlays["ha"])
	if err != nil {
		t.Fatal(err)
	}
	_, before := file(t, plain, "damask-ovs-", "ovs.yaml")
	rapid.Check(t, func(r *rapid.T) {
		added := anything(2).Filter(inYAML).Draw(r, "added")
		values, err := sigsyaml.Marshal(map[string]any{
			"apiServer": map[string]any{"host": "192.0.2.10"}, "controlPlane": map[string]any{"hosts": []string{"192.0.2.1"}},
			"config": map[string]any{"ovs": map[string]any{"added": added}},
		})
		if err != nil {
			r.Fatal(err)
		}
		list, err := render(t, string(values))
		if err != nil {
			r.Fatalf("%v\n%s", err, values)
		}
		_, after := file(t, list, "damask-ovs-", "ovs.yaml")
		if !reflect.DeepEqual(after["added"], added) {
			r.Errorf("the file has %#v, want %#v", after["added"], added)
		}
		delete(after, "added")
		if !reflect.DeepEqual(after, before) {
			r.Errorf("the file has besides %v, want %v", after, before)
		}
	})
}

// TestEachProcessAndContainerHasItsValues: whatever has a file can have more in it, and whatever
// the schema has resources for has them.
func TestEachProcessAndContainerHasItsValues(t *testing.T) {
	var processes []string
	for _, match := range regexp.MustCompile(`define "damask\.file\.([a-z]+)"`).FindAllSubmatch(chartOf(t)["templates/_contents.tpl"], -1) {
		processes = append(processes, string(match[1]))
	}
	var values struct{ Config, Resources map[string]any }
	if err := sigsyaml.Unmarshal(chartOf(t)["values.yaml"], &values); err != nil {
		t.Fatal(err)
	}
	if known := slices.Sorted(maps.Keys(values.Config)); !slices.Equal(known, processes) {
		t.Errorf("values are for the files of %v, and there are those of %v", known, processes)
	}
	given := overlays["ha"] + "config:\n"
	for _, process := range processes {
		given += fmt.Sprintf("  %s: {added: %[1]s}\n", process)
	}
	given += "resources:\n"
	for container := range values.Resources {
		given += fmt.Sprintf("  %s: {limits: {memory: %d}}\n", container, 1000+len(container))
	}
	list, err := render(t, given)
	if err != nil {
		t.Fatal(err)
	}
	for _, process := range processes {
		if _, content := file(t, list, "damask-"+process+"-", process+".yaml"); content["added"] != process {
			t.Errorf("the file of %s has %v", process, content)
		}
	}
	for _, object := range list {
		spec, _ := dig(object, "spec", "template", "spec")
		containers, _ := spec["containers"].([]any)
		for _, c := range containers {
			c := c.(map[string]any)
			name, _ := c["name"].(string)
			limits, _ := dig(c, "resources", "limits")
			if _, sized := values.Resources[name]; sized && limits["memory"] != float64(1000+len(name)) {
				t.Errorf("container %s has the limits %v", name, limits)
			}
			requests, _ := dig(c, "resources", "requests")
			if requests["cpu"] == nil {
				t.Errorf("container %s asks for no CPU any more", name)
			}
			delete(values.Resources, name)
		}
	}
	if len(values.Resources) != 0 {
		t.Errorf("there are no containers %v", values.Resources)
	}
}
