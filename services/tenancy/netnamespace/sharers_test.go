package netnamespace

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestSharersAreASortedSet(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		model := map[string]bool{}
		var list sharers
		name := rapid.StringMatching(`[a-c][a-c0-9-]{0,3}`)
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			n := name.Draw(rt, "name")
			before := slices.Clone(list)
			had := list
			if rapid.Bool().Draw(rt, "add") {
				list, model[n] = list.with(n), true
			} else {
				list = list.without(n)
				delete(model, n)
			}
			if !slices.Equal(had, before) {
				rt.Fatalf("the old list changed from %v to %v", before, had)
			}
			if list.has(n) != model[n] || len(list) != len(model) || !slices.IsSorted(list) {
				rt.Fatalf("list %v, want %v", list, model)
			}
		}
		if len(list) == 0 {
			return
		}
		again, err := parseSharers(list.encode())
		if err != nil || !slices.Equal(again, list) {
			rt.Fatalf("read back %v, %v, want %v", again, err, list)
		}
	})
}

func FuzzParseSharers(f *testing.F) {
	for _, s := range []string{"a", "a\nb", "", "b\na", "a\n\nb", "a\na", "a\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		list, err := parseSharers(value)
		if err != nil {
			return
		}
		if len(list) == 0 || !slices.IsSorted(list) {
			t.Fatalf("%q gave %v", value, list)
		}
		if string(list.encode()) != string(value) {
			t.Fatalf("%q came back as %q", value, list.encode())
		}
	})
}
