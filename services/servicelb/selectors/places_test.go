package selectors

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

// numbered are pods by number.
func numbered(numbers map[int]bool) []*tenancyv1.Pod {
	var pods []*tenancyv1.Pod
	for i := range numbers {
		pods = append(pods, pod(fmt.Sprintf("p%04d", i), front, fmt.Sprintf("10.128.%d.%d", i/250, i%250)))
	}
	return pods
}

// sliceOf is which slice each pod is in.
func sliceOf(list []*servicelbv1.EndpointSlice) map[string]string {
	in := map[string]string{}
	for _, s := range list {
		for _, e := range s.GetEndpoints() {
			in[e.GetTargetRef().GetName()] = s.GetName()
		}
	}
	return in
}

func TestAPodMoreOrLessChangesOneSlice(t *testing.T) {
	service, there := web(front, "8080"), map[int]bool{}
	for i := range 250 {
		there[2*i] = true
	}
	before := compile(service, numbered(there), nil).slices
	for name, change := range map[string]func(){
		"one more, first by name": func() { there[1] = true },
		"one less, first by name": func() { delete(there, 0) },
		"one less, in the middle": func() { delete(there, 2*120) },
	} {
		change()
		after := compile(service, numbered(there), before).slices
		differ := 0
		for i := range before {
			if len(after) != len(before) || !proto.Equal(before[i], after[i]) {
				differ++
			}
		}
		if differ != 1 {
			t.Errorf("%s: %d of %d slices differ", name, differ, len(before))
		}
		before = after
	}
}

// TestAPodStaysInItsSlice draws histories. A pod moves only when there are more than
// twice the slices that are needed; no pod is twice, none is missing, and the same
// again changes nothing.
func TestAPodStaysInItsSlice(t *testing.T) {
	service := web(front, "8080")
	rapid.Check(t, func(rt *rapid.T) {
		there := map[int]bool{}
		var stored []*servicelbv1.EndpointSlice
		for range rapid.IntRange(1, 6).Draw(rt, "changes") {
			from, n := rapid.IntRange(0, 500).Draw(rt, "from"), rapid.IntRange(0, 300).Draw(rt, "pods")
			come := rapid.Bool().Draw(rt, "come")
			for i := from; i < from+n; i++ {
				if there[i] = come; !come {
					delete(there, i)
				}
			}
			before := sliceOf(stored)
			out := compile(service, numbered(there), rapid.Permutation(stored).Draw(rt, "order"))
			in, total, moved := sliceOf(out.slices), 0, map[string]bool{}
			for _, s := range out.slices {
				if n := len(s.GetEndpoints()); n == 0 || n > perSlice {
					rt.Fatalf("slice %s has %d endpoints", s.GetName(), n)
				}
				total += len(s.GetEndpoints())
			}
			if total != len(there) || len(in) != len(there) {
				rt.Fatalf("%d endpoints of %d pods, %d pods are there", total, len(in), len(there))
			}
			needed, kept := (len(there)+perSlice-1)/perSlice, map[string]bool{}
			for name := range in {
				if before[name] != "" {
					kept[before[name]] = true
				}
				if before[name] != "" && before[name] != in[name] {
					moved[before[name]] = true
				}
			}
			if len(moved) > max(0, len(kept)-sparse*needed) {
				rt.Fatalf("pods of %d slices moved, of %d that were left, %d needed", len(moved), len(kept), needed)
			}
			again := compile(service, numbered(there), out.slices).slices
			for i := range again {
				if len(again) != len(out.slices) || !proto.Equal(again[i], out.slices[i]) {
					rt.Fatal("the same pods again change the slices")
				}
			}
			stored = out.slices
		}
	})
}

// FuzzSliceNumbers reads any names of stored slices.
func FuzzSliceNumbers(f *testing.F) {
	f.Add("web.pods-3", "web.pods-")
	f.Add("web.pods-+3", "web.pods-")
	f.Add("web.pods-03", "web.pods-")
	f.Fuzz(func(t *testing.T, name, prefix string) {
		if n, ok := numberOf(name, prefix); ok && fmt.Sprintf("%s%d", prefix, n) != name {
			t.Errorf("%q is number %d of %q", name, n, prefix)
		}
	})
}
