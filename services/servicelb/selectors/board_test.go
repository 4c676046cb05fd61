package selectors

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/servicelb/catalog"
)

// TestABoardFindsWhatAScanFinds compares the board with a scan over everything,
// through random histories.
func TestABoardFindsWhatAScanFinds(t *testing.T) {
	namespaces := rapid.SampledFrom([]string{"a", "b"})
	labels := rapid.MapOfN(rapid.SampledFrom([]string{"k", "l", "m"}), rapid.SampledFrom([]string{"1", "2"}), 0, 3)
	rapid.Check(t, func(rt *rapid.T) {
		b, labelsOf, services := newBoard(), map[podName]map[string]string{}, map[catalog.Name]map[string]string{}
		rt.Repeat(map[string]func(*rapid.T){
			"pod": func(rt *rapid.T) {
				id := podName{namespaces.Draw(rt, "namespace"), fmt.Sprint(rapid.IntRange(0, 5).Draw(rt, "pod"))}
				former := labelsOf[id]
				var next *tenancyv1.Pod
				if delete(labelsOf, id); rapid.Bool().Draw(rt, "there") {
					labelsOf[id] = labels.Draw(rt, "labels")
					next = &tenancyv1.Pod{Namespace: id.namespace, Name: id.name, Labels: labelsOf[id]}
				}
				var want []string
				for name, selector := range services {
					if name.Namespace == id.namespace && (matches(selector, former) || matches(selector, labelsOf[id])) {
						want = append(want, name.String())
					}
				}
				compare(rt, "concerned", texts(b.setPod(id.namespace, id.name, 0, func() *tenancyv1.Pod { return next })), want)
			},
			"service": func(rt *rapid.T) {
				name := catalog.Name{Namespace: namespaces.Draw(rt, "namespace"), Name: fmt.Sprint(rapid.IntRange(0, 5).Draw(rt, "service"))}
				selector := labels.Draw(rt, "selector")
				if services[name] = selector; len(selector) == 0 {
					delete(services, name)
				}
				var got, want []string
				pods, _ := b.setService(name, web(selector))
				for _, pod := range pods {
					if matches(selector, pod.GetLabels()) {
						got = append(got, pod.GetNamespace()+"/"+pod.GetName())
					}
				}
				for id, has := range labelsOf {
					if id.namespace == name.Namespace && matches(selector, has) {
						want = append(want, id.namespace+"/"+id.name)
					}
				}
				compare(rt, "behind "+name.String(), got, want)
			},
			"": func(rt *rapid.T) {
				var want []string
				for name := range services {
					want = append(want, name.String())
				}
				compare(rt, "services", texts(b.services()), want)
				if len(labelsOf) == 0 && (len(b.pods) != 0 || len(b.labelled) != 0) || len(services) == 0 && len(b.selecting) != 0 {
					rt.Fatalf("something stays behind: %v %v %v", b.pods, b.labelled, b.selecting)
				}
			},
		})
	})
}

func texts(names []catalog.Name) []string {
	var list []string
	for _, n := range names {
		list = append(list, n.String())
	}
	return list
}

func compare(rt *rapid.T, what string, got, want []string) {
	slices.Sort(got)
	if slices.Sort(want); !slices.Equal(got, want) {
		rt.Fatalf("%s: got %v, want %v", what, got, want)
	}
}
