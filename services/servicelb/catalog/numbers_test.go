package catalog

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/services/servicelb/pool"
)

func observed(t rapid.TB, n *Numbers, k kind, number uint32, deleted bool) {
	t.Helper()
	key := claimKey(k, number)
	if got, back, ok := claimOf(key); !ok || got != k || back != number {
		t.Fatalf("key %s is read as %s %d, %v", key, got, back, ok)
	}
	n.Observe([]bucket.Change{{Entry: bucket.Entry{Key: key}, Deleted: deleted}}, false)
}

// TestNumbersNeverProposeWhatIsTaken changes networks and claims at random: what
// is proposed is of the present networks and not taken, and something is
// proposed while there is anything.
func TestNumbersNeverProposeWhatIsTaken(t *testing.T) {
	networks := []pool.Span{{First: 10, Last: 14}, {First: 20, Last: 22, Held: 2}, {First: 30, Last: 30}}
	rapid.Check(t, func(rt *rapid.T) {
		n, err := NewNumbers(Pools{NodePorts: pool.Span{First: 40, Last: 41}})
		if err != nil {
			rt.Fatal(err)
		}
		var now []pool.Span
		taken := map[uint32]bool{}
		rt.Repeat(map[string]func(*rapid.T){
			"networks": func(rt *rapid.T) {
				now = rapid.Permutation(networks).Draw(rt, "networks")[:rapid.IntRange(0, 3).Draw(rt, "count")]
				if err := n.SetServiceNetworks(now); err != nil {
					rt.Fatal(err)
				}
			},
			"take": func(rt *rapid.T) {
				number := rapid.Uint32Range(9, 31).Draw(rt, "n")
				taken[number] = true
				observed(rt, n, clusterIPs, number, false)
			},
			"free": func(rt *rapid.T) {
				number := rapid.Uint32Range(9, 31).Draw(rt, "n")
				delete(taken, number)
				observed(rt, n, clusterIPs, number, true)
			},
			"reset": func(rt *rapid.T) {
				clear(taken)
				n.Observe(nil, true)
			},
			"": func(rt *rapid.T) {
				free := 0
				for _, s := range now {
					for number := s.First; number <= s.Last; number++ {
						if !taken[number] {
							free++
						}
					}
				}
				got, found := n.next(clusterIPs, func(uint32) bool { return false })
				if found != (free > 0) || found && (taken[got] || !n.contains(clusterIPs, got)) {
					rt.Fatalf("proposes %d, %v; %d are free of %v", got, found, free, now)
				}
				if held, _ := n.Counts("clusterip"); held != len(taken) {
					rt.Fatalf("%d are taken, want %d", held, len(taken))
				}
			},
		})
	})
}

func TestKeysOfOthersAreNoClaims(t *testing.T) {
	for _, key := range []string{"service.shop.web", "endpointslice.shop.web", "nodeport.x", "nodeport.70000", "clusterip.x", "clusterip.a.b", "clusterip", "clusterip._41", "clusterip.fd00_3A_3A1"} {
		if k, n, ok := claimOf(key); ok {
			t.Errorf("%s is read as %s %d", key, k, n)
		}
	}
}

func TestAPageHasRoomForOneAtLeast(t *testing.T) {
	r := room{objects: 3}
	if !r.take(maxPageBytes*2) || r.take(1) {
		t.Error("a large object is alone on its page")
	}
	r = room{objects: 2}
	for i, want := range []bool{true, true, false} {
		if r.take(1) != want {
			t.Errorf("a page of two has two: object %d", i)
		}
	}
}
