package openflow

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/damask-sdn/damask/internal/ovstest"
)

// connectPort is connect to a bridge with a port p1, number 1.
func connectPort(t *testing.T) (*ovstest.Switch, *Conn) {
	t.Helper()
	ovs, c := connect(t)
	for n := 1; n <= 2; n++ {
		ovs.Vsctl(t, "add-port", "br0", fmt.Sprint("p", n), "--", "set", "Interface", fmt.Sprint("p", n), "type=dummy", fmt.Sprint("ofport_request=", n))
	}
	return ovs, c
}

// packet is a UDP packet with n bytes of payload.
func packet(t *testing.T, n int) []byte {
	t.Helper()
	head := fmt.Sprintf("020000000002"+"020000000001"+"0800"+"4500%04x00004000401100000a0000010a000002"+"0035d431%04x0000", 28+n, 8+n)
	b, err := hex.DecodeString(head)
	if err != nil {
		t.Fatal(err)
	}
	return append(b, bytes.Repeat([]byte{0xab}, n)...)
}

func nextCopy(t *testing.T, c *Conn) PacketIn {
	t.Helper()
	select {
	case p, open := <-c.Copies():
		if !open {
			t.Fatal(c.Err())
		}
		return p
	case <-time.After(limit):
		t.Fatal("no copy came")
	}
	return PacketIn{}
}

func TestACopyComesWithWhatItsFlowKnowsAndThePacketGoesOn(t *testing.T) {
	ovs, c := connectPort(t)
	if _, err := c.KeepMeters(t.Context(), []Meter{{1, 1000, 1000}}); err != nil {
		t.Fatal(err)
	}
	if err := c.Listen(t.Context(), FragmentsNXMatch); err != nil {
		t.Fatal(err)
	}
	if got := ovs.Ofctl(t, "get-frags", "br0"); !strings.Contains(got, "nx-match") {
		t.Errorf("got %q, want nx-match", got)
	}
	err := c.Bundle(t.Context(), adds(
		Flow{Table: 0, Actions: []Action{LoadReg(2, 0x77), Goto(70)}},
		Flow{Table: 70, Priority: 9, Cookie: 0xfedcba9876543210, Match: UDP().SrcPort(53), Actions: []Action{Copy(1), Output(2)}},
	))
	if err != nil {
		t.Fatal(err)
	}
	sent := packet(t, 200)
	ovs.Appctl(t, "netdev-dummy/receive", "p1", hex.EncodeToString(sent))
	p := nextCopy(t, c)
	if p.Table != 70 || p.Cookie != 0xfedcba9876543210 || p.InPort() != 1 || p.Reg(2) != 0x77 || p.Reg(3) != 0 || !bytes.Equal(p.Packet, sent) {
		t.Errorf("got table %d, cookie %#x, port %d, reg2 %#x, packet %x", p.Table, p.Cookie, p.InPort(), p.Reg(2), p.Packet)
	}
	ovs.Appctl(t, "netdev-dummy/receive", "p1", hex.EncodeToString(sent)) // By the datapath's own flow now.
	if again := nextCopy(t, c); !bytes.Equal(again.Packet, p.Packet) || again.Cookie != p.Cookie {
		t.Errorf("the second time got %+v", again)
	}
	if got := portPackets(t, ovs, "p2"); got != "tx pkts=2" {
		t.Errorf("sent on: %s", got)
	}
}

// portPackets is how many packets have left by a port.
func portPackets(t *testing.T, ovs *ovstest.Switch, port string) string {
	t.Helper()
	out := ovs.Ofctl(t, "dump-ports", "br0", port)
	_, tx, _ := strings.Cut(out, "tx pkts=")
	n, _, _ := strings.Cut(tx, ",")
	return "tx pkts=" + n
}

func TestAMeterBoundsCopiesAndNotThePackets(t *testing.T) {
	ovs, c := connectPort(t)
	const rate, burst, sent, queue = 5, 20, 400, 50 // As many as a dummy port takes at once.
	if _, err := c.KeepMeters(t.Context(), []Meter{{1, rate, burst}}); err != nil {
		t.Fatal(err)
	}
	if err := c.Listen(t.Context(), FragmentsNXMatch); err != nil {
		t.Fatal(err)
	}
	if err := c.Bundle(t.Context(), adds(Flow{Match: UDP(), Actions: []Action{Copy(1), Output(2)}})); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	one := hex.EncodeToString(packet(t, 10))
	for batch := range sent / queue {
		ovs.Appctl(t, "netdev-dummy/receive", append([]string{"p1"}, slices.Repeat([]string{one}, queue)...)...)
		want := fmt.Sprint("tx pkts=", (batch+1)*queue)
		for end := time.Now().Add(5 * time.Second); portPackets(t, ovs, "p2") != want; {
			if time.Now().After(end) {
				t.Fatalf("sent on: %s, want %s", portPackets(t, ovs, "p2"), want)
			}
		}
	}
	if err := c.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(time.Second, func() { _ = c.Close() }) // Copies are queued in the switch: what the meter let pass comes within the second.
	got := 0
	for range c.Copies() {
		got++
	}
	if most := burst + rate*(int(time.Since(began).Seconds())+2); got == 0 || got > most {
		t.Errorf("%d copies of %d packets, want 1 to %d", got, sent, most)
	}
}

func TestMetersAreComparedAndStay(t *testing.T) {
	ovs, c := connect(t)
	copying := adds(Flow{Match: UDP(), Actions: []Action{Copy(1), Output(2)}})
	ovs.Ofctl(t, "-O", "OpenFlow13", "add-meter", "br0", "meter=2,kbps,band=type=drop,rate=7")
	ovs.Ofctl(t, "-O", "OpenFlow13", "add-meter", "br0", "meter=9,pktps,band=type=drop,rate=9")
	want := []Meter{{1, 100, 50}, {2, 200, 60}}
	if _, err := c.KeepMeters(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	if err := c.Bundle(t.Context(), copying); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	c = dial(t, ovs)
	has, err := c.meters(t.Context())
	if err != nil || len(has) != 3 || has[1] != want[0] || has[2] != want[1] {
		t.Errorf("after another connection: %v, %v", has, err)
	}
	if added, err := c.KeepMeters(t.Context(), []Meter{{1, 300, 70}}); err != nil || added {
		t.Fatal(added, err)
	}
	if has, _ = c.meters(t.Context()); has[1] != (Meter{1, 300, 70}) || len(dump(t, c)) != 1 {
		t.Errorf("after a change: %v, %d flows", has, len(dump(t, c)))
	}
}

func TestUntilItListensNothingIsCopiedToAConnection(t *testing.T) {
	ovs, listening := connectPort(t)
	silent := dial(t, ovs)
	for _, c := range []*Conn{silent, listening} {
		if _, err := c.KeepMeters(t.Context(), []Meter{{1, 1000, 1000}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := silent.SetFragments(t.Context(), FragmentsNXMatch); err != nil {
		t.Fatal(err)
	}
	if err := listening.Listen(t.Context(), FragmentsNXMatch); err != nil {
		t.Fatal(err)
	}
	if err := silent.Bundle(t.Context(), adds(Flow{Match: UDP(), Actions: []Action{Copy(1)}})); err != nil {
		t.Fatal(err)
	}
	ovs.Appctl(t, "netdev-dummy/receive", "p1", hex.EncodeToString(packet(t, 10)))
	nextCopy(t, listening)
	if err := silent.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(silent.Copies()) != 0 {
		t.Error("a connection that does not listen got a copy")
	}
}

func FuzzPacketIn(f *testing.F) {
	f.Add([]byte("\xff\xff\xff\xff\x00\x2a\x01\x46\xfe\xdc\xba\x98\x76\x54\x32\x10\x00\x01\x00\x0c\x80\x00\x00\x04\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00packet"))
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := decodePacketIn(string(body))
		if err != nil {
			return
		}
		if len(p.Packet) > len(body) {
			t.Errorf("%d bytes of a packet from %d", len(p.Packet), len(body))
		}
		_, _ = p.InPort(), p.Reg(15)
	})
}

func FuzzMeters(f *testing.F) {
	f.Add([]byte("\x00\x18\x00\x06\x00\x00\x00\x01\x00\x01\x00\x10\x00\x00\x00\x64\x00\x00\x00\x32\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, body []byte) {
		has := map[uint32]Meter{}
		_ = eachMeter(string(body), has)
		if len(has) > len(body)/meterFixed {
			t.Errorf("%d meters in %d bytes", len(has), len(body))
		}
	})
}

func FuzzControllerAction(f *testing.F) {
	f.Add([]byte(Copy(7).wire))
	f.Add([]byte("\xff\xff\x00\x20\x00\x00\x23\x20\x00\x25\x00\x00\x00\x00\x00\x00\x00\x00\x00\x08\x00\x80\x00\x00\x00\x03\x00\x07abc\x00"))
	f.Fuzz(func(t *testing.T, wire []byte) {
		actions, _ := splitActions(string(wire))
		if text := string(appendActions(nil, actions)); strings.Contains(text, "\n") || text == "" {
			t.Errorf("text %q", text)
		}
	})
}
