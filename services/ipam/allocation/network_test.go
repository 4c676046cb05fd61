package allocation_test

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/natsd/natsdtest"
	"github.com/damask-sdn/damask/services/ipam/allocation"
)

func TestAPlanIsCreatedOnce(t *testing.T) {
	server := natsdtest.New(t)
	a, _ := replica(t, server, "ipam", nil)
	b, _ := replica(t, server, "ipam", nil)
	_, err := a.Replace(soon(), one(t, "10.128.0.0/14", 9), 1)
	refused(t, err, allocation.NotFound, "there is no cluster network to update")
	first := created(t, a, one(t, "10.128.0.0/14", 9))
	again := created(t, b, one(t, "10.128.0.0/14", 9))
	if first.GetRevision() == 0 || !proto.Equal(first, again) {
		t.Errorf("got %v, then %v", first, again)
	}
	_, err = b.Create(soon(), one(t, "10.128.0.0/14", 8))
	refused(t, err, allocation.AlreadyExists, "there is another cluster network already; update it instead")
}

func TestAPlanIsReplacedOnlyAsItWasRead(t *testing.T) {
	s, _ := replica(t, natsdtest.New(t), "ipam", nil)
	first := created(t, s, one(t, "10.128.0.0/14", 9))
	registered(t, s, node("n1", "u", 1))
	bigger := network(t, map[string]uint32{"10.128.0.0/14": 9, "10.4.0.0/16": 8}, "10.128.0.0/14", "10.4.0.0/16")
	second, err := s.Replace(soon(), bigger, first.GetRevision())
	if err != nil || second.GetRevision() <= first.GetRevision() || len(second.GetNetworks()) != 2 {
		t.Fatalf("got %v, %v", second, err)
	}
	_, err = s.Replace(soon(), one(t, "10.128.0.0/14", 9), first.GetRevision())
	refused(t, err, allocation.StaleRevision, fmt.Sprintf("the cluster network is at revision %d, not %d: read it again", second.GetRevision(), first.GetRevision()))
	_, err = s.Replace(soon(), network(t, map[string]uint32{"10.4.0.0/16": 8, "192.0.0.0/8": 9}, "10.4.0.0/16", "192.0.0.0/8"), second.GetRevision())
	refused(t, err, allocation.InUse, "10.128.0.0/14 by /23 cannot go, shrink or change the size of its subnets: 1 node has a subnet of it (n1 first); "+
		"pod network 192.0.0.0/8 has 192.0.2.1, the address of node n1")
	same, err := s.Replace(soon(), bigger, second.GetRevision())
	if err != nil || !proto.Equal(same, second) {
		t.Errorf("unchanged: got %v, %v", same, err)
	}
}

func TestMarksOfFreedSubnetsGoWithTheirRange(t *testing.T) {
	s, b := replica(t, natsdtest.New(t), "ipam", nil)
	m := created(t, s, network(t, map[string]uint32{"10.128.0.0/14": 9, "10.4.0.0/16": 8}, "10.128.0.0/14", "10.4.0.0/16"))
	registered(t, s, node("a", "u", 1))
	registered(t, s, node("b", "u", 2, "10.4.0.0/24"))
	registered(t, s, node("c", "u", 3, "10.130.0.0/23"))
	released(t, s, "a")
	released(t, s, "b")
	if _, err := s.Replace(soon(), one(t, "10.128.0.0/14", 9), m.GetRevision()); err != nil {
		t.Fatal(err)
	}
	var keys []string
	for e := range b.Scan("claim.", "") {
		keys = append(keys, e.Key+"="+string(e.Value))
	}
	if got, want := fmt.Sprint(keys), "[claim.10_2E128_2E0_2E0_2F23= claim.10_2E130_2E0_2E0_2F23=c]"; got != want {
		t.Errorf("claims are %s, want %s", got, want)
	}
	if got := subnetOf(registered(t, s, node("d", "u", 4))); got != "10.129.0.0/23" {
		t.Errorf("the range that stays forgot how far it was given out: %s", got)
	}
}
