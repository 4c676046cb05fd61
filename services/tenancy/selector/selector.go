// Package selector is Kubernetes' label selectors.
//
// It owns their meaning (matchLabels and matchExpressions, all of which must
// hold; an empty selector selects everything) and their canonical text: two
// selectors that ask for the same in another order, or with the same value
// twice, have the same text and so share what is made of them. It is pure. It
// must not know what is selected.
package selector

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Operator says how a requirement compares.
type Operator string

// Kubernetes' operators.
const (
	In           Operator = "In"
	NotIn        Operator = "NotIn" // Also true of what has no such label.
	Exists       Operator = "Exists"
	DoesNotExist Operator = "DoesNotExist"
)

// Requirement asks for something of one label.
type Requirement struct {
	Key      string
	Operator Operator
	Values   []string // At least one for In and NotIn; none for the others.
}

// Selector is requirements that must all hold, in canonical order. The zero
// Selector selects everything. A Selector is not to be changed.
type Selector struct {
	requirements []Requirement
	text         string
}

// New makes a selector of requirements in any order. They must be well formed.
func New(requirements ...Requirement) Selector {
	if len(requirements) == 0 {
		return Selector{}
	}
	all := make([]Requirement, 0, len(requirements))
	for _, r := range requirements {
		r.Values = slices.Compact(slices.Sorted(slices.Values(r.Values)))
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b Requirement) int {
		return cmp.Or(strings.Compare(a.Key, b.Key), strings.Compare(string(a.Operator), string(b.Operator)),
			slices.Compare(a.Values, b.Values))
	})
	all = slices.CompactFunc(all, func(a, b Requirement) bool {
		return a.Key == b.Key && a.Operator == b.Operator && slices.Equal(a.Values, b.Values)
	})
	s := Selector{requirements: all}
	s.text = s.canonical()
	return s
}

// Labels is the selector of matchLabels.
func Labels(labels map[string]string) Selector {
	requirements := make([]Requirement, 0, len(labels))
	for k, v := range labels {
		requirements = append(requirements, Requirement{Key: k, Operator: In, Values: []string{v}})
	}
	return New(requirements...)
}

// Empty reports whether everything is selected.
func (s Selector) Empty() bool { return len(s.requirements) == 0 }

// String is the canonical text: "app in (web),tier notin (a,b),x,!y", and ""
// for everything. Equal texts mean equal selectors.
func (s Selector) String() string { return s.text }

// Matches reports whether the labels fulfil all requirements.
func (s Selector) Matches(labels map[string]string) bool {
	for i := range s.requirements {
		if !s.requirements[i].matches(labels) {
			return false
		}
	}
	return true
}

func (r *Requirement) matches(labels map[string]string) bool {
	value, has := labels[r.Key]
	switch r.Operator {
	case In:
		return has && slices.Contains(r.Values, value)
	case NotIn:
		return !has || !slices.Contains(r.Values, value)
	case Exists:
		return has
	case DoesNotExist:
		return !has
	}
	return false
}

// Label is one label.
type Label struct{ Key, Value string }

// Anchors answers labels of which everything that is selected has one: an index
// by label needs to look at no other objects. It is false when the selector asks
// for no label by its value.
func (s Selector) Anchors() ([]Label, bool) {
	best := -1
	for i, r := range s.requirements {
		if r.Operator == In && (best < 0 || len(r.Values) < len(s.requirements[best].Values)) {
			best = i
		}
	}
	if best < 0 {
		return nil, false
	}
	r := s.requirements[best]
	labels := make([]Label, 0, len(r.Values))
	for _, v := range r.Values {
		labels = append(labels, Label{r.Key, v})
	}
	return labels, true
}

// canonical cannot be ambiguous: keys and values of labels contain none of the
// characters between them. What is malformed is quoted.
func (s Selector) canonical() string {
	var b strings.Builder
	for i, r := range s.requirements {
		if i > 0 {
			b.WriteByte(',')
		}
		key := plain(r.Key)
		switch r.Operator {
		case Exists:
			b.WriteString(key)
		case DoesNotExist:
			b.WriteString("!" + key)
		default:
			b.WriteString(key + " " + strings.ToLower(string(r.Operator)) + " (")
			for j, v := range r.Values {
				if j > 0 {
					b.WriteByte(',')
				}
				b.WriteString(plain(v))
			}
			b.WriteByte(')')
		}
	}
	return b.String()
}

func plain(s string) string {
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && !strings.ContainsRune("-_./", rune(c)) {
			return strconv.Quote(s)
		}
	}
	return s
}
