package bridge

import (
	"errors"
	"testing"

	"pgregory.net/rapid"
)

func TestNumbersAreUniqueAndReusedLast(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var n numbers
		used := map[uint32]string{TunnelOFPort: "vxlan0", GatewayOFPort: "tun0"}
		freed := map[uint32]int{} // number -> step at which it was freed
		for step := range 200 {
			if len(used) > 2 && rapid.Bool().Draw(t, "free") {
				for number := range used {
					if number >= FirstPodOFPort {
						delete(used, number)
						freed[number] = step
						break
					}
				}
				continue
			}
			number, done, err := n.reserve("port", used)
			if err != nil || used[number] != "" || number < FirstPodOFPort || number > LastPodOFPort {
				t.Fatalf("reserve: %d (used by %q), %v", number, used[number], err)
			}
			if at, was := freed[number]; was {
				t.Fatalf("%d, freed at step %d, was given again at step %d", number, at, step)
			}
			used[number] = "port"
			done()
		}
	})
}

func TestNumbersGoRoundAndRunOut(t *testing.T) {
	var n numbers
	used := map[uint32]string{}
	for number := uint32(FirstPodOFPort); number <= LastPodOFPort; number++ {
		used[number] = "x"
	}
	if number, _, err := n.reserve("port", used); err == nil {
		t.Errorf("got %d of none", number)
	}
	delete(used, 500)
	number, done, err := n.reserve("port", used)
	if number != 500 || err != nil {
		t.Errorf("reserve: %d, %v, want the only free one", number, err)
	}
	if _, _, err := n.reserve("other", used); err == nil {
		t.Error("a pending number was given to a second call")
	}
	if _, err := n.claim(500, "other", used); !errors.Is(err, ErrOFPortTaken) {
		t.Errorf("claim of a pending number: %v", err)
	}
	done()
	if _, err := n.claim(500, "other", used); err != nil {
		t.Errorf("claim of a free number: %v", err)
	}
}
