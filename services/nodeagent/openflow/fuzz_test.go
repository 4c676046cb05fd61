package openflow

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// realDumps are the bodies of flow dumps of a real switch, one a line.
func realDumps(t testing.TB) []string {
	t.Helper()
	text, err := os.ReadFile("testdata/flows.hex")
	if err != nil {
		t.Fatal(err)
	}
	var dumps []string
	for line := range strings.Lines(string(text)) {
		raw, err := hex.DecodeString(strings.TrimSpace(line))
		if err != nil {
			t.Fatal(err)
		}
		dumps = append(dumps, string(raw))
	}
	return dumps
}

// eachEntry visits the decoded flows of a dump, and stops at what is cut short.
func eachEntry(t testing.TB, body string, visit func(InstalledFlow)) {
	t.Helper()
	if _, err := eachFlowStats(body, nil, visit); err != nil && !errors.Is(err, errTruncated) {
		t.Fatal(err)
	}
}

// encoded is the flow-mod that adds f.
func encoded(f Flow) string { return string(appendFlowMod(nil, 1, Mod{Add, f})) }

func FuzzFlowDump(f *testing.F) {
	for _, d := range realDumps(f) {
		for d != "" { // A flow a seed: mutating a whole dump would mostly change nothing of interest.
			length := number(d[:2])
			f.Add([]byte(d[:length]))
			d = d[length:]
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		eachEntry(t, string(body), func(flow InstalledFlow) {
			text := flow.String()
			if strings.Contains(text, "invalid(") {
				t.Errorf("a decoded flow is not a builder's problem: %s", text)
			}
			if strings.Contains(text, "\n") {
				t.Errorf("text of more than a line: %q", text)
			}
			if again := decodeMatch(flow.Match.tlv); again != flow.Match {
				t.Errorf("match is not canonical: %x, then %x", flow.Match.tlv, again.tlv)
			}
			if flow.Check() == nil {
				if size := len(encoded(flow.Flow)); size > maxMessage {
					t.Errorf("Check passed a flow of %d bytes", size)
				}
			}
		})
	})
}

func FuzzMatch(f *testing.F) {
	for _, d := range realDumps(f) {
		eachEntry(f, d, func(flow InstalledFlow) { f.Add([]byte(flow.Match.tlv)) })
	}
	f.Fuzz(func(t *testing.T, tlv []byte) {
		m := decodeMatch(string(tlv))
		if again := decodeMatch(m.tlv); again != m {
			t.Errorf("not canonical: %x, then %x", m.tlv, again.tlv)
		}
		_ = m.String()
		if len(m.tlv) > len(tlv) {
			t.Errorf("grew from %x to %x", tlv, m.tlv)
		}
	})
}

func FuzzInstructions(f *testing.F) {
	for _, d := range realDumps(f) {
		eachEntry(f, d, func(flow InstalledFlow) { f.Add(appendInstructions(nil, flow.Actions)) })
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		actions := appendDecoded(nil, string(wire))
		_ = appendActions(nil, actions)
		once := appendInstructions(nil, actions)
		if len(once) > 0xffff {
			return
		}
		twice := appendInstructions(nil, appendDecoded(nil, string(once)))
		if len(wire)%8 == 0 && len(once)%8 == 0 && !bytes.Equal(once, twice) {
			t.Errorf("%x encodes to %x, then to %x", wire, once, twice)
		}
	})
}

func FuzzMessages(f *testing.F) {
	f.Add(appendHello(nil, 1))
	f.Add(appendSimple(nil, typeBarrierReply, 7))
	f.Add([]byte("\x04\x01\x00\x10\x00\x00\x00\x01\xff\xff\x08\xfc\x4f\x4e\x46\x00"))
	f.Add([]byte("\x06\x00\x00\x10\x00\x00\x00\x00\x00\x01\x00\x08\x00\x00\x00\x70"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		reader := bytes.NewReader(stream)
		for {
			peer, m, err := readMessage(reader)
			if err != nil {
				return
			}
			_ = speaksOurVersion(peer, m.body)
			if decodeError(m.body).Error() == "" {
				t.Error("an error without a text")
			}
			_, _ = decodeAggregate(m.body)
			_, _, _ = splitMultipart(m.body, multipartFlow)
		}
	})
}

// drawMatch draws matches that are consistent.
func drawMatch(t *rapid.T) Match {
	m := rapid.SampledFrom([]Match{Any(), IP(), ARP(), TCP(), UDP(), SCTP(), ICMP(), IPv6()}).Draw(t, "kind")
	u32 := rapid.Uint32()
	prefix := rapid.Custom(func(t *rapid.T) netip.Prefix {
		a := netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, u32.Draw(t, "addr"))))
		return netip.PrefixFrom(a, rapid.IntRange(0, 32).Draw(t, "bits"))
	})
	mac := rapid.Custom(func(t *rapid.T) net.HardwareAddr {
		return rapid.SliceOfN(rapid.Byte(), 6, 6).Draw(t, "mac")
	})
	kind, _ := m.value(oxmEthType)
	proto, _ := m.value(oxmIPProto)
	steps := []func(){
		func() { m = m.InPort(rapid.Uint32Range(1, 0xfeff).Draw(t, "port")) },
		func() { m = m.EthSrc(mac.Draw(t, "src")) },
		func() { m = m.EthDstMasked(mac.Draw(t, "dst"), mac.Draw(t, "mask")) },
		func() { m = m.RegMasked(rapid.IntRange(0, 7).Draw(t, "reg"), u32.Draw(t, "v"), u32.Draw(t, "mask")) },
		func() { m = m.Reg(rapid.IntRange(8, 15).Draw(t, "reg"), u32.Draw(t, "v")) },
		func() { m = m.TunID(rapid.Uint64().Draw(t, "tun")) },
		func() { m = m.TunSrc(prefix.Draw(t, "tun_src").Addr()) },
		func() { m = m.PktMark(u32.Draw(t, "mark"), u32.Draw(t, "mask")) },
		func() { m = m.CTMark(u32.Draw(t, "ctmark"), u32.Draw(t, "mask")) },
		func() { m = m.CTZone(rapid.Uint16().Draw(t, "zone")) },
		func() { m = m.ConjID(u32.Draw(t, "conj")) },
	}
	switch {
	case kind == "\x08\x00":
		steps = append(steps, func() { m = m.IPSrc(prefix.Draw(t, "src")) }, func() { m = m.IPDst(prefix.Draw(t, "dst")) },
			func() {
				// What is invalid has no mark that an action could set: the switch refuses both in one.
				m = m.CTState(rapid.Uint32Range(0, 255).Draw(t, "state")&^CTInvalid, rapid.Uint32Range(0, 255).Draw(t, "states"))
			})
		if proto != "" {
			steps = append(steps, func() { m = m.FirstFragment() })
		} else { // A fragment without ports cannot be asked for one.
			steps = append(steps, func() { m = m.LaterFragment() })
		}
	case kind == "\x08\x06":
		steps = append(steps, func() { m = m.ARPSender(prefix.Draw(t, "spa")) }, func() { m = m.ARPOp(1) },
			func() { m = m.ARPSenderMAC(mac.Draw(t, "sha"), mac.Draw(t, "mask")) })
	}
	if len(proto) == 1 && proto[0] != protoICMP {
		steps = append(steps, func() { m = m.DstPortMasked(rapid.Uint16().Draw(t, "port"), rapid.Uint16().Draw(t, "mask")) })
	}
	for _, i := range rapid.SliceOfDistinct(rapid.IntRange(0, len(steps)-1), rapid.ID[int]).Draw(t, "steps") {
		steps[i]()
	}
	return m
}

// drawActions draws actions; those of connection tracking are for IP only.
func drawActions(t *rapid.T, tracked bool) []Action {
	reg, u32 := rapid.IntRange(0, 15), rapid.Uint32()
	if rapid.IntRange(0, 4).Draw(t, "clauses alone") == 0 { // A switch takes them with nothing else.
		return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Action {
			of := rapid.Uint8Range(2, 64).Draw(t, "of")
			return Conjunction(u32.Draw(t, "conjunction"), rapid.Uint8Range(1, of).Draw(t, "clause"), of)
		}), 1, 6).Draw(t, "clauses")
	}
	one := rapid.Custom(func(t *rapid.T) Action {
		return rapid.SampledFrom([]Action{
			LoadReg(reg.Draw(t, "reg"), u32.Draw(t, "v")), MoveRegToTunID(reg.Draw(t, "reg")), MoveTunIDToReg(reg.Draw(t, "reg")),
			MoveReg(reg.Draw(t, "from"), reg.Draw(t, "to")), OutputReg(reg.Draw(t, "reg")), Copy(rapid.Uint32Range(1, 9).Draw(t, "meter")), Output(rapid.Uint32Range(1, 0xfeff).Draw(t, "port")),
			SetPktMark(u32.Draw(t, "mark")), SetEthDst(net.HardwareAddr{2, 0, 0, 0, 0, rapid.Byte().Draw(t, "mac")}),
			SetTunDst(netip.AddrFrom4([4]byte{10, 0, 0, rapid.Byte().Draw(t, "addr")})), Resubmit(rapid.Uint8().Draw(t, "table")),
			Multipath(rapid.IntRange(1, 65536).Draw(t, "links"), reg.Draw(t, "reg")),
			LoadTunID(u32.Draw(t, "vni")), Note(rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "note")),
		}).Draw(t, "action")
	})
	actions := rapid.SliceOfN(one, 0, 6).Draw(t, "actions")
	if tracked && rapid.Bool().Draw(t, "ct") {
		zone, table := rapid.Uint16().Draw(t, "zone"), rapid.Uint8Range(0, 253).Draw(t, "table")
		actions = append(actions, rapid.SampledFrom([]Action{
			CT(Conntrack{Commit: true, Zone: zone, Exec: []Action{LoadCTMark(u32.Draw(t, "mark"))}}),
			CT(Conntrack{Zone: zone, Table: &table}), CT(Conntrack{Zone: zone, Table: &table, NAT: &NAT{}}),
		}).Draw(t, "conntrack"))
	}
	if rapid.Bool().Draw(t, "goto") {
		actions = append(actions, Goto(rapid.Uint8Range(100, 253).Draw(t, "table")))
	}
	return actions
}

func drawFlow(t *rapid.T) Flow {
	m := drawMatch(t)
	kind, _ := m.value(oxmEthType)
	// The switch refuses to track what its match says is no connection.
	invalid := strings.Contains(m.String(), "+inv")
	return Flow{Table: rapid.Uint8Range(0, 99).Draw(t, "table"), Priority: rapid.Uint16().Draw(t, "priority"),
		Cookie: rapid.Uint64().Draw(t, "cookie"), Match: m, Actions: drawActions(t, kind == "\x08\x00" && !invalid)}
}

// statsEntry is the dump entry that a switch makes of a flow-mod.
func statsEntry(f Flow) string {
	mod := encoded(f)
	b := binary.BigEndian.AppendUint16(nil, uint16(flowStatsFixed+len(mod)-flowModFixed))
	b = append(b, f.Table, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, f.Priority)
	b = append(b, make([]byte, 10)...)
	b = binary.BigEndian.AppendUint64(b, f.Cookie)
	b = append(b, make([]byte, 16)...)
	return string(b) + mod[flowModFixed:]
}

func TestWhatIsEncodedIsDecodedAsTheSameFlow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		flows := rapid.SliceOfN(rapid.Custom(drawFlow), 1, 5).Draw(t, "flows")
		var body string
		for _, f := range flows {
			if err := f.Check(); err != nil {
				t.Fatal(err)
			}
			if got, want := flowModSize(f), len(encoded(f)); got < want || got > want+applyHeader {
				t.Fatalf("flowModSize got %d, want %d", got, want)
			}
			body += statsEntry(f)
		}
		var got []Flow
		_, err := eachFlowStats(body, nil, func(f InstalledFlow) {
			f.Actions = slices.Clone(f.Actions)
			got = append(got, f.Flow)
		})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.EqualFunc(got, flows, Flow.Equal) {
			t.Fatalf("got %v, want %v", got, flows)
		}
	})
}

func TestFieldOrderAndCarelessMasksDoNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := drawMatch(t)
		var entries []string
		for rest := m.tlv; rest != ""; {
			h, body, next, _ := nextEntry(rest)
			entry := rest[:len(rest)-len(next)]
			if !h.masked() && rapid.Bool().Draw(t, "spell the mask out") {
				entry = string(binary.BigEndian.AppendUint32(nil, uint32(h.withMask()))) + body + strings.Repeat("\xff", len(body))
			}
			entries = append(entries, entry)
			rest = next
		}
		shuffled := strings.Join(rapid.Permutation(entries).Draw(t, "order"), "")
		if got := decodeMatch(shuffled); got != m {
			t.Fatalf("got %s, want %s", got, m)
		}
	})
}

func TestRandomFlowsSurviveARealSwitch(t *testing.T) {
	_, c := connect(t)
	rapid.Check(t, func(t *rapid.T) {
		want := map[Key]Flow{}
		for _, f := range rapid.SliceOfN(rapid.Custom(drawFlow), 1, 20).Draw(t, "flows") {
			want[f.Key()] = f
		}
		var mods, undo []Mod
		for _, f := range want {
			mods, undo = append(mods, Mod{Add, f}), append(undo, Mod{DeleteStrict, f})
		}
		if err := c.Bundle(t.Context(), mods); err != nil {
			t.Fatal(err)
		}
		seen := 0
		err := c.EachFlow(t.Context(), func(f InstalledFlow) {
			seen++
			if !f.Equal(want[f.Key()]) {
				t.Errorf("got  %#v\nwant %#v", f.Flow, want[f.Key()])
			}
		})
		if err != nil || seen != len(want) {
			t.Fatalf("got %d flows, %v, want %d", seen, err, len(want))
		}
		if err := c.Bundle(t.Context(), undo); err != nil {
			t.Fatal(err)
		}
	})
}
