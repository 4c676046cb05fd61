package pool_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/damask-sdn/damask/services/servicelb/pool"
)

func none(uint32) bool { return false }

// TestAPoolIsASetOfNumbers compares a pool with a map, through random histories.
func TestAPoolIsASetOfNumbers(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var spans []pool.Span
		total := 0
		for at := uint32(1000); len(spans) < 3; {
			at += rapid.Uint32Range(0, 5).Draw(rt, "gap")
			size := rapid.Uint32Range(1, 200).Draw(rt, "size")
			spans = append(spans, pool.Span{First: at, Last: at + size - 1, Held: rapid.Uint32Range(0, 250).Draw(rt, "held")})
			at += size
			total += int(size)
		}
		p, err := pool.New(spans)
		if err != nil || p.Size() != total {
			rt.Fatalf("%v, size %d of %d", err, p.Size(), total)
		}
		taken := map[uint32]bool{}
		number := rapid.Uint32Range(995, spans[2].Last+5)
		rt.Repeat(map[string]func(*rapid.T){
			"take": func(rt *rapid.T) {
				from := number.Draw(rt, "from")
				for n := from; n < from+rapid.Uint32Range(1, 150).Draw(rt, "count"); n++ {
					p.Take(n)
					if p.Contains(n) {
						taken[n] = true
					}
				}
			},
			"free": func(rt *rapid.T) {
				n := number.Draw(rt, "n")
				p.Free(n)
				delete(taken, n)
			},
			"next": func(rt *rapid.T) {
				odd := rapid.Bool().Draw(rt, "skip odd numbers")
				skip := func(n uint32) bool { return odd && n%2 == 1 }
				n, found := p.Next(func(n uint32) uint32 { return rapid.Uint32Range(0, n-1).Draw(rt, "draw") }, skip)
				want := wanted(spans, taken, skip)
				if found != (len(want) > 0) || found && !want[n] {
					rt.Fatalf("next answers %d, %v, want one of %v", n, found, want)
				}
			},
			"": func(rt *rapid.T) {
				if p.Taken() != len(taken) {
					rt.Fatalf("taken %d, want %d", p.Taken(), len(taken))
				}
			},
		})
	})
}

// wanted answers which numbers may come next: of the first span that has any,
// those that are not held if there are some.
func wanted(spans []pool.Span, taken map[uint32]bool, skip func(uint32) bool) map[uint32]bool {
	for _, s := range spans {
		held, open := map[uint32]bool{}, map[uint32]bool{}
		for n := s.First; n <= s.Last; n++ {
			switch {
			case taken[n] || skip(n):
			case n-s.First < s.Held:
				held[n] = true
			default:
				open[n] = true
			}
		}
		if len(open) > 0 {
			return open
		}
		if len(held) > 0 {
			return held
		}
	}
	return nil
}

func TestAPoolMayReachTheEndOfAllNumbers(t *testing.T) {
	p, err := pool.New([]pool.Span{{First: 1<<32 - 3, Last: 1<<32 - 1, Held: 1}})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		n, found := p.Next(func(n uint32) uint32 { return n - 1 }, none)
		if !found {
			t.Fatal("exhausted too early")
		}
		p.Take(n)
	}
	if n, found := p.Next(func(uint32) uint32 { return 0 }, none); found {
		t.Errorf("one too many: %d", n)
	}
}

func TestSpansThatOverlapAreRefused(t *testing.T) {
	for _, spans := range [][]pool.Span{{{First: 2, Last: 1}}, {{First: 1, Last: 5}, {First: 5, Last: 9}}} {
		if _, err := pool.New(spans); err == nil {
			t.Errorf("%v passed", spans)
		}
	}
}

func TestRangesAreRead(t *testing.T) {
	address := func(text string, held uint32, first, last string) {
		t.Helper()
		s, err := pool.ServiceNetwork(text)
		if err != nil || pool.Address(s.First).String() != first || pool.Address(s.Last).String() != last || s.Held != held {
			t.Errorf("%s: %s to %s, %d held, %v", text, pool.Address(s.First), pool.Address(s.Last), s.Held, err)
		}
	}
	address("172.30.0.0/16", 256, "172.30.0.1", "172.30.255.254")
	address("10.96.0.0/24", 16, "10.96.0.1", "10.96.0.254")
	address("10.96.0.0/28", 0, "10.96.0.1", "10.96.0.14")
	address("10.96.0.0/30", 0, "10.96.0.1", "10.96.0.2")
	if s, err := pool.Addresses("192.0.2.10-192.0.2.12"); err != nil || s.Size() != 3 || !s.Contains(pool.Number(pool.Address(s.First))) {
		t.Errorf("a range of addresses: %v, %v", s, err)
	}
	if s, err := pool.Addresses("192.0.2.7/32"); err != nil || s.Size() != 1 {
		t.Errorf("one address: %v, %v", s, err)
	}
	if s, err := pool.Ports("30000-32767"); err != nil || s != (pool.Span{First: 30000, Last: 32767, Held: 86}) {
		t.Errorf("ports: %v, %v", s, err)
	}
}

func TestRangesThatAreNoneAreRefused(t *testing.T) {
	cases := map[string]struct {
		read  func(string) (pool.Span, error)
		texts []string
	}{
		"service network": {pool.ServiceNetwork, []string{"", "x", "172.30.0.1/16", "10.0.0.0/7", "10.0.0.0/31", "fd00::/64", "172.30.0.0"}},
		"addresses":       {pool.Addresses, []string{"", "x", "192.0.2.2-192.0.2.1", "192.0.2.2-x", "fd00::1-fd00::2", "0.0.0.0-255.0.0.0", "192.0.2.1"}},
		"ports":           {pool.Ports, []string{"", "x", "30000", "0-5", "5-4", "1-65536", "-"}},
	}
	for what, c := range cases {
		for _, text := range c.texts {
			if s, err := c.read(text); err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("%s %q: %v, %v", what, text, s, err)
			}
		}
	}
}

func FuzzRanges(f *testing.F) {
	for _, seed := range []string{"172.30.0.0/16", "192.0.2.1-192.0.2.9", "30000-32767", "-", "::/0"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, read := range []func(string) (pool.Span, error){pool.ServiceNetwork, pool.Addresses, pool.Ports} {
			if s, err := read(text); err == nil && (s.First > s.Last || s.Size() > 1<<24) {
				t.Errorf("%q: %v", text, s)
			}
		}
	})
}
