package hostport

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// flow sends a datagram at each of two steps from one socket, and answers what was heard.
func (r *rig) flow(t *testing.T, before func(step int)) []string {
	t.Helper()
	conn, err := net.Dial("udp4", "192.0.2.1:80")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var heard []string
	for step := range 2 {
		before(step)
		_, _ = conn.Write([]byte("?"))
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil {
			line = err.Error()
		}
		heard = append(heard, strings.TrimSpace(line))
	}
	return heard
}

func TestRestartChangesNothing(t *testing.T) {
	eachBackend(t, func(t *testing.T, r *rig) {
		if first := r.ensure(t); len(first) == 0 {
			t.Error("the first Ensure reports no repair")
		}
		web, api := mapping("web", webIP, 80, TCP), mapping("api", apiIP, 81, UDP)
		r.put(t, "web/eth0", web)
		r.put(t, "api/eth0", api)
		before := r.save(t)
		for range 2 {
			if repairs := r.ensure(t); len(repairs) != 0 {
				t.Errorf("repairs %q", repairs)
			}
		}
		r.restart(t)
		r.rules.Keep("web/eth0", []Mapping{web})
		r.rules.Keep("api/eth0", []Mapping{api})
		if repairs := r.ensure(t); len(repairs) != 0 || r.save(t) != before {
			t.Errorf("a restart repairs %q", repairs)
		}
		// A pod that went while no agent ran.
		r.restart(t)
		r.rules.Keep("api/eth0", []Mapping{api})
		if repairs := r.ensure(t); len(repairs) == 0 || strings.Contains(r.save(t), "red/web") {
			t.Errorf("repairs %q left\n%s", repairs, r.save(t))
		}
		r.put(t, "api/eth0")
		if got := r.save(t); strings.Contains(got, prefixPort) {
			t.Errorf("left over:\n%s", got)
		}
	})
}

func TestDamageIsRepaired(t *testing.T) {
	eachBackend(t, func(t *testing.T, r *rig) {
		web := mapping("web", webIP, 80, TCP)
		r.ensure(t)
		r.put(t, "web/eth0", web)
		before := sorted(r.save(t))
		for damage, noticed := range map[string]bool{ // whether CHECK of the pod says so
			"-t nat -F KUBE-HOSTPORTS": true, "-t nat -F DAMASK-HOSTPORT-TENANTS": false, "-t nat -F PREROUTING": false, "-t nat -F OUTPUT": false,
			"-t nat -F POSTROUTING": false, "-t raw -F PREROUTING": false, "-t nat -F CHAIN": true, "-t nat -A CHAIN -j RETURN": true,
			"-t nat -I KUBE-HOSTPORTS 1 -p tcp --dport 99 -j CHAIN": false, "-t nat -I KUBE-HOSTPORTS 1 -j RETURN": false,
		} {
			r.do(t, strings.ReplaceAll(damage, "CHAIN", chainOf("web/eth0", web)))
			var found []string
			r.node.Do(t, func() { found, _ = r.rules.Differences(t.Context(), "web/eth0", []Mapping{web}) })
			if noticed != (len(found) > 0) {
				t.Errorf("%s: CHECK says %q", damage, found)
			}
			if repairs := r.ensure(t); len(repairs) == 0 {
				t.Errorf("%s: no repair is reported", damage)
			}
			if after := sorted(r.save(t)); !slices.Equal(before, after) {
				t.Errorf("%s: was\n%s\nis\n%s", damage, strings.Join(before, ""), strings.Join(after, ""))
			}
		}
	})
}

func sorted(save string) []string { return slices.Sorted(strings.Lines(save)) }

// TestChangeOfDamagedRules: a pod must go also when somebody has taken its rules away.
func TestChangeOfDamagedRules(t *testing.T) {
	eachBackend(t, func(t *testing.T, r *rig) {
		r.ensure(t)
		r.put(t, "web/eth0", mapping("web", webIP, 80, TCP))
		r.do(t, "-t nat -F KUBE-HOSTPORTS")
		r.put(t, "web/eth0")
		r.put(t, "api/eth0", mapping("api", apiIP, 80, TCP))
		r.wants(t, "outside", r.outside, "tcp", "192.0.2.1:80", "api saw 192.0.2.10")
	})
}

func TestPutNeedsTheNode(t *testing.T) {
	r := newRig(t, "iptables-nft")
	r.node.Do(t, func() {
		if err := r.rules.Put(t.Context(), "web/eth0", []Mapping{mapping("web", webIP, 80, TCP)}); err == nil {
			t.Error("rules are written for a node that nobody knows")
		}
		if err := r.rules.Put(t.Context(), "web/eth0", nil); err != nil {
			t.Error(err)
		}
		_, err := r.rules.Ensure(t.Context(), Node{Nodes: []netip.Addr{netip.MustParseAddr("::1")}, MasqueradeBit: 32})
		for _, part := range []string{"cluster networks are missing", "invalid Prefix", "::1", "masquerade bit 32"} {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("error %v does not say %q", err, part)
			}
		}
	})
}

// histories is how many are drawn: each starts about fifty processes.
const histories = 10

// TestAnyHistoryLeavesWhatAFreshStartWrites draws changes, and compares the rules with
// those that an agent writes who knows the end only.
func TestAnyHistoryLeavesWhatAFreshStartWrites(t *testing.T) {
	eachBackend(t, func(t *testing.T, r *rig) {
		r.ensure(t)
		empty := r.save(t)
		for seed := range histories {
			random := rand.New(rand.NewPCG(uint64(seed), 0))
			owners := map[string][]Mapping{}
			for range 1 + random.IntN(6) {
				i := random.IntN(3)
				owner := fmt.Sprintf("box%d/eth0", i)
				var wish []Mapping
				for p := range random.IntN(4) {
					wish = append(wish, mapping("pod", webIP, uint16(100*(i+1)+p), []Protocol{TCP, UDP, SCTP}[random.IntN(3)]))
				}
				owners[owner] = wish
				r.put(t, owner, wish...)
			}
			if repairs := r.ensure(t); len(repairs) != 0 {
				t.Fatalf("seed %d: repairs %q", seed, repairs)
			}
			r.restart(t)
			for owner, wish := range owners {
				if len(wish) > 0 {
					r.rules.Keep(owner, wish)
				}
			}
			if repairs := r.ensure(t); len(repairs) != 0 {
				t.Fatalf("seed %d: a fresh start repairs %q", seed, repairs)
			}
			for owner := range owners {
				r.put(t, owner)
			}
			if left := r.save(t); left != empty {
				t.Fatalf("seed %d: left over:\n%s", seed, left)
			}
		}
	})
}
