package masquerade

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// words makes one-word rules out of a string: "A B" are the rules A and B. Rules with
// a small letter are other people's.
func words(text string) []rule {
	var rules []rule
	for _, w := range strings.Fields(text) {
		rules = append(rules, rule{w})
	}
	return rules
}

func isOurs(r rule) bool { return r[0] >= "A" && r[0] <= "Z" }

// apply does the steps on a copy and calls each after every step.
func apply(t interface{ Fatalf(string, ...any) }, has []rule, steps []step, each func(chain []rule)) []rule {
	chain := slices.Clone(has)
	for _, s := range steps {
		i := s.position - 1
		if s.insert {
			if i < 0 || i > len(chain) {
				t.Fatalf("insert at %d of %d", s.position, len(chain))
			}
			chain = slices.Insert(chain, i, s.rule)
		} else {
			if i < 0 || i >= len(chain) || !same(chain[i], s.rule) {
				t.Fatalf("delete %v at %d of %v", s.rule, s.position, chain)
			}
			chain = slices.Delete(chain, i, i+1)
		}
		each(chain)
	}
	return chain
}

func TestPlanGivesTheWantedRulesWithFewSteps(t *testing.T) {
	for _, c := range []struct {
		name, has, want, end string
		steps                int
	}{
		{"all there", "A B C", "A B C", "A B C", 0},
		{"empty chain", "", "A B C", "A B C", 3},
		{"one missing in the middle", "A C", "A B C", "A B C", 1},
		{"one too many", "A X B", "A B", "A B", 1},
		{"a duplicate", "A B A", "A B", "A B", 1},
		{"wrong order", "B A", "A B", "A B", 2},
		{"everything is wrong", "X Y", "A B", "A B", 4},
		{"first jump goes to the top", "x y", "A", "A x y", 1},
		{"jump before the next of ours", "x B y", "A B", "x A B y", 1},
		{"jump after the last of ours", "x A y", "A B", "x A B y", 1},
		{"others between ours stay", "A x B y", "A B", "A x B y", 0},
		{"wrong order around others", "x B y A z", "A B", "x A B y z", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			steps := plan(words(c.has), words(c.want), isOurs)
			got := apply(t, words(c.has), steps, func([]rule) {})
			if !slices.EqualFunc(got, words(c.end), same) || len(steps) != c.steps {
				t.Errorf("from %q to %q: got %v in %d steps, want %q in %d", c.has, c.want, got, len(steps), c.end, c.steps)
			}
		})
	}
}

func TestPlanNeverLosesAWantedRuleNorTouchesOthers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		letter := rapid.SampledFrom([]string{"A", "B", "C", "D", "E", "x", "y"})
		has := words(strings.Join(rapid.SliceOfN(letter, 0, 12).Draw(t, "has"), " "))
		want := words(strings.Join(rapid.SliceOfNDistinct(
			rapid.SampledFrom([]string{"A", "B", "C", "D", "E"}), 0, 5, rapid.ID).Draw(t, "want"), " "))
		before := map[string]bool{}
		for _, r := range has {
			before[r[0]] = true
		}
		contains := func(chain []rule, r rule) bool {
			return slices.ContainsFunc(chain, func(x rule) bool { return same(x, r) })
		}
		end := apply(t, has, plan(has, want, isOurs), func(chain []rule) {
			for _, w := range want {
				if before[w[0]] && !contains(chain, w) {
					t.Fatalf("%v is missing on the way: %v", w, chain)
				}
			}
		})
		var ours, others, othersBefore []rule
		for _, r := range end {
			if isOurs(r) {
				ours = append(ours, r)
			} else {
				others = append(others, r)
			}
		}
		for _, r := range has {
			if !isOurs(r) {
				othersBefore = append(othersBefore, r)
			}
		}
		if !slices.EqualFunc(ours, want, same) {
			t.Fatalf("got %v, want %v", end, want)
		}
		if !slices.EqualFunc(others, othersBefore, same) {
			t.Fatalf("others' rules were %v, are %v", othersBefore, others)
		}
		if again := plan(end, want, isOurs); len(again) != 0 {
			t.Fatalf("a second plan is not empty: %v", again)
		}
	})
}
