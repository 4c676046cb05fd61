package vnid

import (
	"testing"

	"pgregory.net/rapid"
)

func TestNextScansUpwardAndWraps(t *testing.T) {
	cases := []struct {
		name  string
		span  Range
		taken []uint32
		start uint32
		want  uint32
		none  bool
	}{
		{name: "the start itself when it is free", span: Range{10, 19}, start: 14, want: 14},
		{name: "the next above when the start is taken", span: Range{10, 19}, taken: []uint32{14, 15}, start: 14, want: 16},
		{name: "from the bottom after the top", span: Range{10, 12}, taken: []uint32{12}, start: 12, want: 10},
		{name: "the one number below the start", span: Range{10, 12}, taken: []uint32{11, 12}, start: 11, want: 10},
		{name: "none when all are taken", span: Range{10, 11}, taken: []uint32{10, 11}, start: 10, none: true},
		{name: "a start below the range counts as its bottom", span: Range{10, 19}, start: 3, want: 10},
		{name: "a start above the range counts as its bottom", span: Range{10, 19}, start: 99, want: 10},
		{name: "a range of one", span: Range{77, 77}, start: 77, want: 77},
		{name: "numbers outside the range are ignored", span: Range{10, 11}, taken: []uint32{0, 1, 9, 12, 1 << 30}, start: 10, want: 10},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := NewSet(c.span)
			for _, n := range c.taken {
				s.Take(n)
			}
			got, ok := s.Next(c.start)
			if ok == c.none || got != c.want {
				t.Fatalf("Next(%d) = %d, %v, want %d, %v", c.start, got, ok, c.want, !c.none)
			}
		})
	}
}

func TestTheLastFreeOfTheWholeRangeIsFoundFromAnywhere(t *testing.T) {
	s := NewSet(Default())
	for n := First; n <= Last; n++ {
		s.Take(n)
	}
	if got, ok := s.Next(First); ok {
		t.Fatalf("a full set answered %d", got)
	}
	for _, free := range []uint32{First, 4105, 8_388_608, Last} {
		s.Free(free)
		for _, start := range []uint32{First, free, free + 1, 12_000_000, Last} {
			if got, ok := s.Next(start); !ok || got != free {
				t.Errorf("Next(%d) = %d, %v, want %d", start, got, ok, free)
			}
		}
		s.Take(free)
	}
	if s.Taken() != Default().Size() {
		t.Errorf("taken %d, want %d", s.Taken(), Default().Size())
	}
}

// TestASetIsAMap compares a set with a plain map under random use.
func TestASetIsAMap(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		first := rapid.Uint32Range(First, 5000).Draw(rt, "first")
		span := Range{First: first, Last: first + rapid.Uint32Range(0, 9000).Draw(rt, "more")}
		set, taken := NewSet(span), map[uint32]bool{}
		near := rapid.Uint32Range(span.First-2, span.Last+2)
		rt.Repeat(map[string]func(*rapid.T){
			"take": func(rt *rapid.T) {
				from := near.Draw(rt, "from")
				for n := from; n < from+rapid.Uint32Range(1, 300).Draw(rt, "count"); n++ {
					set.Take(n)
					if span.Contains(n) {
						taken[n] = true
					}
				}
			},
			"free": func(rt *rapid.T) {
				n := near.Draw(rt, "n")
				set.Free(n)
				delete(taken, n)
			},
			"next": func(rt *rapid.T) {
				start := rapid.Uint32Range(span.First, span.Last).Draw(rt, "start")
				want, found := scan(span, taken, start)
				if got, ok := set.Next(start); ok != found || got != want {
					rt.Fatalf("Next(%d) = %d, %v, want %d, %v", start, got, ok, want, found)
				}
			},
			"": func(rt *rapid.T) {
				if set.Taken() != len(taken) {
					rt.Fatalf("taken %d, want %d", set.Taken(), len(taken))
				}
			},
		})
	})
}

// scan is the ancestor's linear scan, as the model.
func scan(span Range, taken map[uint32]bool, start uint32) (uint32, bool) {
	for i := range uint32(span.Size()) {
		n := span.First + (start-span.First+i)%uint32(span.Size())
		if !taken[n] {
			return n, true
		}
	}
	return 0, false
}

func TestARangeOfSpecialNumbersIsRefused(t *testing.T) {
	for _, r := range []Range{{9, 20}, {0, 0}, {20, 19}, {10, Last + 1}} {
		if r.Validate() == nil {
			t.Errorf("range %v passed", r)
		}
	}
	if err := Default().Validate(); err != nil {
		t.Errorf("the default range: %v", err)
	}
}

func BenchmarkNextInASetWithOneFree(b *testing.B) {
	s := NewSet(Default())
	for n := First; n < Last; n++ {
		s.Take(n)
	}
	for b.Loop() {
		if _, ok := s.Next(First); !ok {
			b.Fatal("none")
		}
	}
}
