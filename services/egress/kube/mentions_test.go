package kube

import (
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/types"
)

func TestWhoMentionsWhat(t *testing.T) {
	var m mentions
	a, b := types.NamespacedName{Name: "a"}, types.NamespacedName{Namespace: "x", Name: "b"}
	for _, step := range []struct {
		object      types.NamespacedName
		all         []string
		one, second string // who mentions "1", and "2"
	}{
		{a, []string{"1", "2"}, "/a", "/a"},
		{b, []string{"2", "2"}, "/a", "/a x/b"},
		{a, []string{"2"}, "", "/a x/b"},
		{b, nil, "", "/a"},
		{b, nil, "", "/a"},
		{a, nil, "", ""},
	} {
		m.set(step.object, step.all)
		who := func(text string) string {
			var names []string
			for _, object := range m.of(text) {
				names = append(names, object.String())
			}
			slices.Sort(names)
			return strings.Join(names, " ")
		}
		if one, second := who("1"), who("2"); one != step.one || second != step.second {
			t.Errorf("after %v of %v: %q and %q, want %q and %q", step.all, step.object, one, second, step.one, step.second)
		}
	}
	if len(m.in)+len(m.objects) != 0 {
		t.Errorf("something is left: %v, %v", m.in, m.objects)
	}
}
