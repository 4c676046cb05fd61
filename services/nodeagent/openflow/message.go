package openflow

import (
	"encoding/binary"
	"fmt"
)

// version is OpenFlow 1.3, with the ONF extension for bundles, which Open vSwitch has had since 2.5. Not 1.4, although
// that has bundles of its own: both were tried with Open vSwitch 3.1 and behave the same, but bridges are often limited
// to protocols=OpenFlow13. Not 1.5: there Open vSwitch writes load:0x3->NXM_NX_REG2[] back as set_field:0x3->reg2, and
// traces would no longer read as operators know them.
const version = 4

const (
	headerSize     = 8      // Version, type, length, transaction id.
	maxMessage     = 0xffff // Length is sixteen bits.
	bundleAddTop   = 16     // Experimenter header: id, type.
	bundleAddBody  = 8      // Bundle id, padding, flags.
	flowModFixed   = 48     // Header and fixed part, before the match.
	flowStatsFixed = 48     // Length to byte count, before the match.
	noBuffer       = 0xffffffff

	bundleAddHeader = bundleAddTop + bundleAddBody
)

// Message types.
const (
	typeHello            = 0
	typeError            = 1
	typeEchoRequest      = 2
	typeEchoReply        = 3
	typeExperimenter     = 4
	typeFeaturesRequest  = 5
	typeFeaturesReply    = 6
	typeSetConfig        = 9
	typeFlowMod          = 14
	typeMultipartRequest = 18
	typeMultipartReply   = 19
	typeBarrierRequest   = 20
	typeBarrierReply     = 21
)

// Multipart types.
const (
	multipartFlow      = 1
	multipartAggregate = 2
	multipartMore      = 1 // Flag: another reply follows.
)

// ONF bundle messages.
const (
	bundleControl = 2300
	bundleAdd     = 2301

	bundleOpen    = 0
	bundleCommit  = 4
	bundleDiscard = 6
	bundleReply   = 1 // Added to a request.

	bundleAtomic  = 1 // All or nothing.
	bundleOrdered = 2 // In the order of adding.
)

// A message is one received message. Its body shares no memory with anything that changes.
type message struct {
	kind uint8
	xid  uint32
	body string // After the header.
}

// begin appends a header whose length finish fills in.
func begin(b []byte, kind uint8, xid uint32) []byte {
	b = append(b, version, kind, 0, 0)
	return binary.BigEndian.AppendUint32(b, xid)
}

// finish fills in the length of the message that starts at start.
func finish(b []byte, start int) []byte {
	binary.BigEndian.PutUint16(b[start+2:], uint16(len(b)-start))
	return b
}

// appendSimple appends a message that is a header alone.
func appendSimple(b []byte, kind uint8, xid uint32) []byte {
	return finish(begin(b, kind, xid), len(b))
}

// appendHello offers OpenFlow 1.3 and nothing else, in the version and in the bitmap.
func appendHello(b []byte, xid uint32) []byte {
	start := len(b)
	b = begin(b, typeHello, xid)
	b = append(b, 0, 1, 0, 8)
	return finish(binary.BigEndian.AppendUint32(b, 1<<version), start)
}

// speaksOurVersion reads a hello's version and, where it has one, its bitmap.
func speaksOurVersion(peer uint8, body string) bool {
	for len(body) >= 8 {
		kind, length := number(body[:2]), int(number(body[2:4]))
		if kind == 1 && length >= 8 {
			return number(body[4:8])&(1<<version) != 0
		}
		padded := (length + 7) / 8 * 8
		if length < 4 || padded > len(body) {
			break
		}
		body = body[padded:]
	}
	return peer >= version
}

// A Fragments mode is what the switch does with IP fragments.
type Fragments uint16

// The modes that are of use to us; NXMatch shows fragments to flows, with the ports in the first fragment only.
const (
	FragmentsNormal  Fragments = 0
	FragmentsDrop    Fragments = 1
	FragmentsNXMatch Fragments = 3
)

// appendSetConfig sets the fragment mode, and how long the packets are that the switch sends us where no flow says so.
// Open vSwitch sends none at all to a management connection whose length is 0.
func appendSetConfig(b []byte, xid uint32, mode Fragments, length uint16) []byte {
	start := len(b)
	b = binary.BigEndian.AppendUint16(begin(b, typeSetConfig, xid), uint16(mode))
	return finish(binary.BigEndian.AppendUint16(b, length), start)
}

// A Command is what a Mod does.
type Command uint8

// Commands. Add replaces a flow of the same key, its cookie too, and keeps its counters; ModifyStrict replaces the
// actions of the flow with that key, and adds nothing where there is none.
const (
	Add          Command = 0
	ModifyStrict Command = 2
	DeleteStrict Command = 4
)

func (c Command) String() string {
	switch c {
	case Add:
		return "add"
	case ModifyStrict:
		return "modify"
	case DeleteStrict:
		return "delete"
	}
	return fmt.Sprintf("command %d", uint8(c))
}

// A Mod is one change of a flow table. A DeleteStrict looks at the flow's key alone.
type Mod struct {
	Command Command
	Flow    Flow
}

// appendFlowMod appends a flow modification; the flow must have passed Check.
func appendFlowMod(b []byte, xid uint32, m Mod) []byte {
	start := len(b)
	b = begin(b, typeFlowMod, xid)
	cookie := m.Flow.Cookie
	if m.Command == DeleteStrict {
		cookie = 0
	}
	b = binary.BigEndian.AppendUint64(b, cookie)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0, m.Flow.Table, byte(m.Command), 0, 0, 0, 0) // No cookie mask, no timeouts.
	b = binary.BigEndian.AppendUint16(b, m.Flow.Priority)
	b = binary.BigEndian.AppendUint32(b, noBuffer)
	b = binary.BigEndian.AppendUint32(b, portAny)
	b = binary.BigEndian.AppendUint32(b, portAny) // Any group has the same number.
	b = append(b, 0, 0, 0, 0)                     // No flags.
	b = appendMatch(b, m.Flow.Match)
	if m.Command != DeleteStrict {
		b = appendInstructions(b, m.Flow.Actions)
	}
	return finish(b, start)
}

// flowModSize is the length of the message that adds f.
func flowModSize(f Flow) int {
	size := flowModFixed + (4+len(f.Match.tlv)+7)/8*8 + applyHeader
	for _, a := range f.Actions {
		size += len(a.wire)
	}
	return size
}

// appendBundleControl appends a request to open, commit or discard a bundle.
func appendBundleControl(b []byte, xid, bundle uint32, request uint16) []byte {
	start := len(b)
	b = binary.BigEndian.AppendUint32(begin(b, typeExperimenter, xid), experimenterONF)
	b = binary.BigEndian.AppendUint32(b, bundleControl)
	b = binary.BigEndian.AppendUint32(b, bundle)
	b = binary.BigEndian.AppendUint16(b, request)
	return finish(binary.BigEndian.AppendUint16(b, bundleAtomic|bundleOrdered), start)
}

// appendBundleAdd appends a flow modification that waits in a bundle. The inner message must have the outer one's xid.
func appendBundleAdd(b []byte, xid, bundle uint32, m Mod) []byte {
	start := len(b)
	b = binary.BigEndian.AppendUint32(begin(b, typeExperimenter, xid), experimenterONF)
	b = binary.BigEndian.AppendUint32(b, bundleAdd)
	b = binary.BigEndian.AppendUint32(b, bundle)
	b = append(b, 0, 0, 0, bundleAtomic|bundleOrdered)
	return finish(appendFlowMod(b, xid, m), start)
}
