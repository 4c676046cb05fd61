package selector

import (
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

func TestEachOperatorSaysWhatKubernetesSays(t *testing.T) {
	tests := []struct {
		name        string
		requirement Requirement
		with        bool // has app=web
		other       bool // has app=db
		without     bool // has no app
	}{
		{"In wants the label with one of the values", Requirement{"app", In, []string{"web", "api"}}, true, false, false},
		{"NotIn takes other values, and no label at all", Requirement{"app", NotIn, []string{"web"}}, false, true, true},
		{"Exists takes any value", Requirement{"app", Exists, nil}, true, true, false},
		{"DoesNotExist wants no label", Requirement{"app", DoesNotExist, nil}, false, false, true},
		{"an unknown operator selects nothing", Requirement{"app", "Near", nil}, false, false, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := New(test.requirement)
			got := []bool{s.Matches(map[string]string{"app": "web"}), s.Matches(map[string]string{"app": "db"}), s.Matches(nil)}
			if want := []bool{test.with, test.other, test.without}; got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
				t.Errorf("%s got %v, want %v", s, got, want)
			}
		})
	}
}

func TestEmptySelectsEverythingAndAnEmptyValueIsNotNoLabel(t *testing.T) {
	if s := New(); !s.Empty() || !s.Matches(nil) || s.String() != "" {
		t.Errorf("the empty selector is %q", s)
	}
	if Labels(map[string]string{"app": ""}).Matches(nil) {
		t.Error("app= matches what has no app")
	}
	if !Labels(map[string]string{"app": ""}).Matches(map[string]string{"app": ""}) {
		t.Error("app= does not match app=")
	}
}

func TestTheSameSelectorHasOneText(t *testing.T) {
	a := New(Requirement{"tier", NotIn, []string{"b", "a", "b"}}, Requirement{"app", In, []string{"web"}}, Requirement{"x", Exists, nil})
	b := New(Requirement{"x", Exists, nil}, Requirement{"app", In, []string{"web"}}, Requirement{"tier", NotIn, []string{"a", "b"}},
		Requirement{"x", Exists, nil})
	if want := "app in (web),tier notin (a,b),x"; a.String() != want || b.String() != want {
		t.Errorf("got %q and %q, want %q", a, b, want)
	}
	if a, b := New(Requirement{"a", In, []string{"x,y"}}), New(Requirement{"a", In, []string{"x", "y"}}); a.String() == b.String() {
		t.Errorf("two selectors with the text %q", a)
	}
}

func drawSelector(t *rapid.T) Selector {
	one := rapid.Custom(func(t *rapid.T) Requirement {
		r := Requirement{Key: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "key"),
			Operator: rapid.SampledFrom([]Operator{In, NotIn, Exists, DoesNotExist}).Draw(t, "operator")}
		if r.Operator == In || r.Operator == NotIn {
			r.Values = rapid.SliceOfN(rapid.SampledFrom([]string{"", "1", "2"}), 1, 3).Draw(t, "values")
		}
		return r
	})
	return New(rapid.SliceOfN(one, 0, 3).Draw(t, "requirements")...)
}

func TestWhatIsSelectedHasAnAnchor(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSelector(t)
		labels := rapid.MapOf(rapid.SampledFrom([]string{"a", "b", "c"}), rapid.SampledFrom([]string{"", "1", "2"})).Draw(t, "labels")
		anchors, ok := s.Anchors()
		if !s.Matches(labels) || !ok {
			return
		}
		for _, a := range anchors {
			if v, has := labels[a.Key]; has && v == a.Value {
				return
			}
		}
		t.Errorf("%s selects %v, and has the anchors %v", s, labels, anchors)
	})
}

func TestOrderDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSelector(t)
		shuffled := append([]Requirement(nil), s.requirements...)
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		if again := New(shuffled...); again.String() != s.String() {
			t.Errorf("got %q, want %q", again, s)
		}
	})
}
