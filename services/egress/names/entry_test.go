package names

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var (
	start0  = time.Unix(1_000_000, 0)
	errDown = errors.New("no answer within 2s")
)

func TestTheTTLIsKeptWithAFloor(t *testing.T) {
	for ttl, want := range map[time.Duration]time.Duration{
		0: 5 * time.Second, time.Second: 5 * time.Second, 5 * time.Second: 5 * time.Second,
		10 * time.Minute: 10 * time.Minute, 60 * 24 * time.Hour: 24 * time.Hour,
	} {
		e := newEntry(start0, nil)
		e.succeed(start0, Answer{addrs("192.0.2.1"), ttl})
		if got := e.due.Sub(start0); got != want {
			t.Errorf("with TTL %v the next look-up is after %v, want %v", ttl, got, want)
		}
	}
}

func TestAFailureIsTriedAgainWithGrowingPauses(t *testing.T) {
	e, now := newEntry(start0, nil), start0
	if e.due != start0 {
		t.Error("the first look-up is not at once")
	}
	for _, want := range []time.Duration{1, 2, 4, 8, 16, 30, 30, 30} {
		e.fail(now, errDown)
		if got := e.due.Sub(now); got != want*time.Second {
			t.Errorf("the pause is %v, want %v", got, want*time.Second)
		}
		now = e.due
	}
	e.succeed(now, Answer{addrs("192.0.2.1"), time.Minute})
	e.fail(now, errDown)
	if got := e.due.Sub(now); got != time.Second {
		t.Errorf("after a success the pause is %v", got)
	}
}

func TestAddressesStayWhileServersDoNotAnswer(t *testing.T) {
	e := newEntry(start0, nil)
	e.succeed(start0, Answer{addrs("192.0.2.1"), time.Minute})
	later := start0.Add(48 * time.Hour)
	e.fail(later, errDown)
	e.expire(later.Add(48 * time.Hour))
	if got := e.list(); len(got) != 1 {
		t.Errorf("it has %v", got)
	}
	// They answer again, with another address: the old one leaves in its time.
	back := later.Add(96 * time.Hour)
	e.succeed(back, Answer{addrs("192.0.2.2"), 10 * time.Second})
	e.expire(back.Add(59 * time.Second))
	if got := e.list(); !slices.Equal(got, addrs("192.0.2.1", "192.0.2.2")) {
		t.Errorf("it has %v", got)
	}
	e.succeed(back.Add(61*time.Second), Answer{addrs("192.0.2.2"), 10 * time.Second})
	if got := e.list(); !slices.Equal(got, addrs("192.0.2.2")) {
		t.Errorf("it has %v", got)
	}
}

func TestANameThatIsGoneLosesItsAddressesWhenPodsHave(t *testing.T) {
	e := newEntry(start0, nil)
	e.succeed(start0, Answer{addrs("192.0.2.1"), 10 * time.Minute})
	gone := start0.Add(9 * time.Minute)
	e.fail(gone, ErrNoAddress)
	if e.expire(gone); len(e.list()) != 1 {
		t.Error("it left at once")
	}
	if e.expire(start0.Add(11 * time.Minute)); len(e.list()) != 0 {
		t.Error("it stays for ever")
	}
}

// TestRandomHistoriesOfAName compares with a list of all answers ever given.
func TestRandomHistoriesOfAName(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := start0
		e := newEntry(now, nil)
		type seen struct {
			at  time.Time
			ttl time.Duration
		}
		last := map[netip.Addr]seen{}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(1, 100).Draw(t, "seconds")) * time.Second)
			switch rapid.IntRange(0, 3).Draw(t, "kind") {
			case 0:
				e.fail(now, errDown)
			case 1:
				e.fail(now, ErrNoAddress)
			default:
				ttl := time.Duration(rapid.IntRange(0, 200).Draw(t, "ttl")) * time.Second
				var list []netip.Addr
				for _, n := range rapid.SliceOfNDistinct(rapid.IntRange(1, 9), 1, 4, rapid.ID[int]).Draw(t, "addresses") {
					addr := netip.AddrFrom4([4]byte{192, 0, 2, byte(n)})
					list = append(list, addr)
					last[addr] = seen{now, ttl}
				}
				e.succeed(now, Answer{list, ttl})
				for _, addr := range list {
					if !slices.Contains(e.list(), addr) {
						t.Fatalf("%v was just seen and is not there", addr)
					}
				}
			}
			e.expire(now)
			for addr, s := range last {
				// A pod that heard it may use it for its TTL; it stays a minute at least.
				if now.Sub(s.at) < max(s.ttl, linger) && !slices.Contains(e.list(), addr) {
					t.Fatalf("%v was seen %v ago with TTL %v and left", addr, now.Sub(s.at), s.ttl)
				}
			}
			for _, addr := range e.list() {
				if _, ever := last[addr]; !ever {
					t.Fatalf("%v was never seen", addr)
				}
			}
			if wait := e.due.Sub(now); wait < firstRetry || wait > ceiling {
				t.Fatalf("the next look-up is after %v", wait)
			}
		}
	})
}

func TestANameHasNotMoreAddressesThanALimit(t *testing.T) {
	e := newEntry(start0, nil)
	for i := range 5 {
		var list []netip.Addr
		for j := range 1000 {
			list = append(list, netip.AddrFrom4([4]byte{198, byte(i), byte(j >> 8), byte(j)}))
		}
		e.succeed(start0.Add(time.Duration(i)*time.Second), Answer{list, time.Hour})
	}
	got := e.list()
	if len(got) != maxAddresses || got[0].As4()[1] != 1 {
		t.Errorf("it has %d addresses from %v", len(got), got[0])
	}
}
