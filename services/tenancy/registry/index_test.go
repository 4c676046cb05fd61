package registry

import (
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/damask-sdn/damask/internal/bucket"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

// TestAnIndexIsASortedMap compares an index with a plain map under random
// changes, and pages through it by every filter.
func TestAnIndexIsASortedMap(t *testing.T) {
	namespaces := rapid.SampledFrom([]string{"a", "a-b", "b", "shop"})
	pods := rapid.SampledFrom([]string{"a", "a-b", "a.b", "a0", "web-0", "z"})
	nodes := rapid.SampledFrom([]string{"n1", "n2", "infra.ocp.cn"})
	rapid.Check(t, func(rt *rapid.T) {
		x, model := NewIndex(), map[Name]string{}
		rt.Repeat(map[string]func(*rapid.T){
			"change": func(rt *rapid.T) {
				name := Name{namespaces.Draw(rt, "namespace"), pods.Draw(rt, "pod")}
				c := change(t, name, nodes.Draw(rt, "node"))
				c.Deleted = rapid.Bool().Draw(rt, "delete")
				model[name] = nodeOf(t, c)
				if c.Deleted {
					delete(model, name)
				}
				x.Observe([]bucket.Change{c}, false)
			},
			"reset": func(*rapid.T) {
				var all []bucket.Change
				for name, node := range model {
					all = append(all, change(t, name, node))
				}
				x.Observe(all, true)
			},
			"": func(rt *rapid.T) {
				if x.Count() != len(model) {
					rt.Fatalf("%d pods, want %d", x.Count(), len(model))
				}
				f := Filter{}
				if rapid.Bool().Draw(rt, "by namespace") {
					f.Namespace = namespaces.Draw(rt, "of namespace")
				}
				if rapid.Bool().Draw(rt, "by node") {
					f.Node = nodes.Draw(rt, "on node")
				}
				want := expect(model, f)
				if got := walk(x, f, rapid.IntRange(1, 4).Draw(rt, "page")); !slices.Equal(got, want) {
					rt.Fatalf("filter %+v: %v, want %v", f, got, want)
				}
			},
		})
	})
}

// walk reads all pages.
func walk(x *Index, f Filter, size int) []Name {
	var all []Name
	for {
		names, more := x.Page(f, size)
		all = append(all, names...)
		if !more {
			return all
		}
		f.After = names[len(names)-1]
	}
}

func expect(model map[Name]string, f Filter) []Name {
	var want []Name
	for name, node := range model {
		if (f.Namespace == "" || name.Namespace == f.Namespace) && (f.Node == "" || node == f.Node) {
			want = append(want, name)
		}
	}
	slices.SortFunc(want, Name.compare)
	return want
}

func change(t *testing.T, name Name, node string) bucket.Change {
	t.Helper()
	value, err := proto.Marshal(&tenancyv1.Pod{Namespace: name.Namespace, Name: name.Pod, Node: node})
	if err != nil {
		t.Fatal(err)
	}
	return bucket.Change{Entry: bucket.Entry{Key: Table().Key(name.Namespace, name.Pod), Value: value}}
}

func nodeOf(t *testing.T, c bucket.Change) string {
	t.Helper()
	pod := &tenancyv1.Pod{}
	if err := proto.Unmarshal(c.Value, pod); err != nil {
		t.Fatal(err)
	}
	return pod.GetNode()
}
