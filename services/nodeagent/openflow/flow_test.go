package openflow

import (
	"net"
	"net/netip"
	"strings"
	"testing"
)

// samples are flows of every shape that we build, with the text that ovs-ofctl writes for them.
func samples() map[string]Flow {
	mac := net.HardwareAddr{0x0a, 0x59, 0x00, 0x82, 0xf8, 0xb2}
	multicast := net.HardwareAddr{1, 0, 0, 0, 0, 0}
	table30, table80 := uint8(30), uint8(80)
	net14, host := netip.MustParsePrefix("10.128.0.0/14"), netip.MustParsePrefix("10.130.0.5/32")
	ip := netip.MustParseAddr
	return map[string]Flow{
		"table=70, priority=150,udp,nw_src=10.130.0.5,tp_src=53 actions=controller(meter_id=1),load:0x3->NXM_NX_REG2[],goto_table:80": {Table: 70, Priority: 150,
			Match: UDP().IPSrc(host).SrcPort(53), Actions: []Action{Copy(1), LoadReg(2, 3), Goto(80)}},
		"table=71, priority=150,udp actions=controller(meter_id=2)": {Table: 71, Priority: 150, Match: UDP(), Actions: []Action{Copy(2)}},
		"table=0, priority=100,ip actions=goto_table:20":            {Priority: 100, Match: IP(), Actions: []Action{Goto(20)}},
		"table=10, priority=0 actions=drop":                         {Table: 10},
		"table=30, priority=200,ip,nw_dst=10.130.0.0/23 actions=goto_table:70": {Table: 30, Priority: 200,
			Match: Any().IPDst(netip.MustParsePrefix("10.130.0.5/23")), Actions: []Action{Goto(70)}},
		"table=20, priority=100,ip,in_port=4,nw_src=10.130.0.5 actions=load:0x82f8b2->NXM_NX_REG0[],goto_table:21": {Table: 20, Priority: 100,
			Match: IP().IPSrc(host).InPort(4), Actions: []Action{LoadReg(0, 0x82f8b2), Goto(21)}},
		"table=70, priority=100,ip,nw_dst=10.130.0.5 actions=load:0->NXM_NX_REG1[],load:0x3->NXM_NX_REG2[],goto_table:80": {Table: 70, Priority: 100,
			Match: IP().IPDst(host), Actions: []Action{LoadReg(1, 0), LoadReg(2, 3), Goto(80)}},
		"table=90, priority=100,ip,nw_dst=10.128.0.0/14 actions=move:NXM_NX_REG0[]->NXM_NX_TUN_ID[0..31],set_field:192.168.108.111->tun_dst,output:1": {Table: 90, Priority: 100,
			Match: IP().IPDst(net14), Actions: []Action{MoveRegToTunID(0), SetTunDst(ip("192.168.108.111")), Output(1)}},
		"table=0, priority=200,arp,in_port=1,arp_spa=10.128.0.0/14,arp_tpa=10.130.0.5 actions=move:NXM_NX_TUN_ID[0..31]->NXM_NX_REG0[],goto_table:10": {Priority: 200,
			Match: ARP().ARPTarget(host).InPort(1).ARPSender(net14), Actions: []Action{MoveTunIDToReg(0), Goto(10)}},
		"table=10, priority=100,tun_src=192.168.108.112 actions=goto_table:30": {Table: 10, Priority: 100,
			Match: Any().TunSrc(ip("192.168.108.112")), Actions: []Action{Goto(30)}},
		"table=80, priority=200,reg0=0x2a,reg1=0x2a actions=output:NXM_NX_REG2[]": {Table: 80, Priority: 200,
			Match: Any().Reg(1, 42).Reg(0, 42), Actions: []Action{OutputReg(2)}},
		"table=60, priority=200,reg0=0 actions=output:2": {Table: 60, Priority: 200, Match: Any().Reg(0, 0), Actions: []Action{Output(2)}},
		"table=60, priority=100,tcp,nw_dst=10.130.0.5,tp_dst=8080 actions=LOCAL": {Table: 60, Priority: 100,
			Match: TCP().IPDst(host).DstPort(8080), Actions: []Action{Output(PortLocal)}},
		"table=60, priority=100,udp,in_port=LOCAL,tp_src=0x50/0xfff0,tp_dst=53 actions=NORMAL": {Table: 60, Priority: 100,
			Match: UDP().DstPort(53).SrcPortMasked(0x5f, 0xfff0).InPort(PortLocal), Actions: []Action{Normal()}},
		"table=60, priority=100,sctp,tp_src=1,tp_dst=2 actions=IN_PORT": {Table: 60, Priority: 100,
			Match: SCTP().DstPort(2).SrcPort(1), Actions: []Action{Output(PortInPort)}},
		"table=60, priority=7,icmp,reg3=0x1/0xf,tun_id=0x7 actions=dec_ttl,output:9": {Table: 60, Priority: 7,
			Match: ICMP().TunID(7).RegMasked(3, 0xf1, 0xf), Actions: []Action{DecTTL(), Output(9)}},
		"table=60, priority=7,ip,nw_proto=47 actions=drop": {Table: 60, Priority: 7, Match: IP().Proto(47)},
		"table=100, priority=100,ip,reg0=0x82f8b2 actions=set_field:0a:59:00:82:f8:b2->eth_dst,set_field:0x82f8b2->pkt_mark,goto_table:101": {Table: 100, Priority: 100,
			Match: IP().Reg(0, 0x82f8b2), Actions: []Action{SetEthDst(mac), SetPktMark(0x82f8b2), Goto(101)}},
		"table=101, priority=1,dl_src=0a:59:00:82:f8:b2,dl_dst=01:00:00:00:00:00/01:00:00:00:00:00 actions=set_field:0a:59:00:82:f8:b2->eth_src,output:2": {Table: 101, Priority: 1,
			Match: Any().EthSrc(mac).EthDstMasked(multicast, multicast), Actions: []Action{SetEthSrc(mac), Output(2)}},
		"table=0, priority=9,arp,in_port=3,arp_spa=10.130.0.5,arp_op=1,arp_sha=00:00:0a:82:00:05/00:00:ff:ff:ff:ff actions=drop": {Priority: 9,
			Match: ARP().InPort(3).ARPOp(1).ARPSender(host).ARPSenderMAC(net.HardwareAddr{0, 0, 10, 130, 0, 5}, net.HardwareAddr{0, 0, 255, 255, 255, 255})},
		"table=25, priority=9,pkt_mark=0x1/0x1,ct_state=+rpl+trk,ct_zone=7,ct_mark=0x2,tcp actions=ct(commit,table=80,zone=7,nat(src=10.0.0.1-10.0.0.5:100-200),exec(load:0x1->NXM_NX_CT_MARK[]))": {Table: 25, Priority: 9,
			Match: TCP().CTState(CTReply|CTTracked, CTReply|CTTracked).CTZone(7).CTMark(2, 0xffffffff).PktMark(1, 1),
			Actions: []Action{CT(Conntrack{Commit: true, Zone: 7, Table: &table80, Exec: []Action{LoadCTMark(1)},
				NAT: &NAT{Source: true, Min: ip("10.0.0.1"), Max: ip("10.0.0.5"), PortMin: 100, PortMax: 200}})}},
		"table=25, priority=100,ip,nw_src=10.130.0.5 actions=load:0x82f8b2->NXM_NX_REG0[],ct(commit,zone=25),goto_table:30": {Table: 25, Priority: 100,
			Match: IP().IPSrc(host), Actions: []Action{LoadReg(0, 0x82f8b2), CT(Conntrack{Commit: true, Zone: 25}), Goto(30)}},
		"table=30, priority=250,ct_state=-trk,ip,nw_src=10.128.0.0/14,nw_dst=10.130.0.0/23 actions=ct(table=30,nat)": {Table: 30, Priority: 250,
			Match: IP().CTState(0, CTTracked).IPSrc(net14).IPDst(netip.MustParsePrefix("10.130.0.0/23")), Actions: []Action{CT(Conntrack{Table: &table30, NAT: &NAT{}})}},
		"table=30, priority=249,ct_state=-trk,ip,nw_src=10.128.0.0/14,nw_dst=10.130.0.0/23 actions=ct(table=30,zone=25)": {Table: 30, Priority: 249,
			Match: IP().CTState(0, CTTracked).IPSrc(net14).IPDst(netip.MustParsePrefix("10.130.0.0/23")), Actions: []Action{CT(Conntrack{Table: &table30, Zone: 25})}},
		"table=70, priority=200,ct_state=+rpl+trk,ip,nw_dst=10.130.0.5 actions=load:0x82f8b2->NXM_NX_REG1[],load:0x2->NXM_NX_REG2[],set_field:0a:59:00:82:f8:b2->eth_dst,goto_table:80": {Table: 70, Priority: 200,
			Match: IP().CTState(CTReply|CTTracked, CTReply|CTTracked).IPDst(host), Actions: []Action{LoadReg(1, 0x82f8b2), LoadReg(2, 2), SetEthDst(mac), Goto(80)}},
		"table=60, priority=100,ip,nw_dst=10.130.0.5,nw_frag=later actions=drop": {Table: 60, Priority: 100, Match: IP().IPDst(host).LaterFragment()},
		"table=61, priority=90,tcp,nw_frag=first,tp_dst=0 actions=drop":          {Table: 61, Priority: 90, Match: TCP().FirstFragment().DstPort(0)},
		"table=25, priority=9,ct_state=-new+est,ip actions=ct(table=80,nat)": {Table: 25, Priority: 9,
			Match: IP().CTState(CTEstablished, CTNew|CTEstablished), Actions: []Action{CT(Conntrack{Table: &table80, NAT: &NAT{}})}},
		"table=25, priority=8,ip actions=ct(commit,force,nat(dst=10.0.0.9:80)),resubmit(,80)": {Table: 25, Priority: 8,
			Match: IP(), Actions: []Action{CT(Conntrack{Commit: true, Force: true, NAT: &NAT{Destination: true, Min: ip("10.0.0.9"), PortMin: 80}}), Resubmit(80)}},
		"table=25, priority=8,ipv6,ipv6_src=fd00::/64,ipv6_dst=fd00::5 actions=ct(commit,zone=1,nat(src=[fd00::1]:80))": {Table: 25, Priority: 8,
			Match:   Any().IPSrc(netip.MustParsePrefix("fd00::9/64")).IPDst(netip.MustParsePrefix("fd00::5/128")),
			Actions: []Action{CT(Conntrack{Commit: true, Zone: 1, NAT: &NAT{Source: true, Min: ip("fd00::1"), PortMin: 80}})}},
		"table=80, priority=5,ip actions=conjunction(7,1/2),conjunction(8,3/3)": {Table: 80, Priority: 5, Match: IP(),
			Actions: []Action{Conjunction(7, 1, 2), Conjunction(8, 3, 3)}},
		"table=80, priority=6,conj_id=7,ip actions=load:0x5->NXM_NX_TUN_ID[0..31],move:NXM_NX_REG1[]->NXM_NX_REG3[]": {Table: 80, Priority: 6,
			Match: IP().ConjID(7), Actions: []Action{LoadTunID(5), MoveReg(1, 3)}},
		"table=22, priority=330,ct_state=-est-rpl+trk,tcp,tp_src=0x0/0x8000,tp_dst=0x8000/0x8000,tcp_flags=-syn actions=ct_clear,goto_table:30": {Table: 22, Priority: 330,
			Match:   TCP().CTState(CTTracked, CTTracked|CTEstablished|CTReply).TCPFlags(TCPAck, TCPSyn).SrcPortMasked(0, 0x8000).DstPortMasked(0x8000, 0x8000),
			Actions: []Action{CTClear(), Goto(30)}},
		"table=22, priority=331,tcp,tcp_flags=ack actions=drop": {Table: 22, Priority: 331, Match: TCP().TCPFlags(TCPAck, 0xffff)},
		"table=253, priority=0 actions=note:02.0d.00.00.00.00":  {Table: 253, Actions: []Action{Note([]byte{2, 13})}},
		"table=100, priority=140,ct_state=-trk,ip,dl_src=0a:59:00:00:00:00/ff:ff:00:00:00:00 actions=multipath(symmetric_l3l4+udp,0,hrw,3,0,NXM_NX_REG3[]),ct(table=30)": {Table: 100, Priority: 140,
			Match:   IP().CTState(0, CTTracked).EthSrcMasked(mac, net.HardwareAddr{255, 255, 0, 0, 0, 0}),
			Actions: []Action{Multipath(3, 3), CT(Conntrack{Table: &table30})}},
		"table=253, priority=1 actions=note:01.02.03.04.05.06.07.00.00.00.00.00.00.00": {Table: 253, Priority: 1,
			Actions: []Action{Note([]byte{1, 2, 3, 4, 5, 6, 7})}},
	}
}

func TestFlowsPrintAsOvsOfctlDoes(t *testing.T) {
	for want, f := range samples() {
		if got := f.String(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		if err := f.Check(); err != nil {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestBuildingOrderDoesNotMatter(t *testing.T) {
	p := netip.MustParsePrefix("10.0.0.0/8")
	a := TCP().IPSrc(p).InPort(3).Reg(0, 5).DstPort(80)
	b := Any().Reg(0, 5).IPSrc(p).Proto(6).DstPort(80).InPort(3).IPSrc(p)
	if a != b {
		t.Errorf("got %s, want %s", b, a)
	}
}

func TestWhatBuildersCannotExpressIsRefusedByName(t *testing.T) {
	cases := map[string]Flow{
		"invalid prefix":                      {Match: IP().IPSrc(netip.Prefix{})},
		"wrong family":                        {Match: ARP().ARPSender(netip.MustParsePrefix("fd00::/64"))},
		"register 16":                         {Match: Any().Reg(16, 1)},
		"register -1":                         {Actions: []Action{LoadReg(-1, 1)}},
		"port 80 needs tcp":                   {Match: IP().DstPort(80)},
		"dl_type is matched twice":            {Match: ARP().IPDst(netip.MustParsePrefix("10.0.0.0/8"))},
		"nw_src is matched twice":             {Match: IP().IPSrc(netip.MustParsePrefix("10.0.0.0/8")).IPSrc(netip.MustParsePrefix("10.0.0.1/32"))},
		"not an Ethernet address":             {Match: Any().EthSrc(nil)},
		"invalid address":                     {Match: Any().TunSrc(netip.Addr{})},
		"invalid tunnel address":              {Actions: []Action{SetTunDst(netip.Addr{})}},
		"goto_table is not the last action":   {Actions: []Action{Goto(5), Output(1)}},
		"goto_table:5 does not lead forward":  {Table: 5, Actions: []Action{Goto(5)}},
		"multipath of 0 links":                {Actions: []Action{Multipath(0, 3)}},
		"conjunction clause 3/2":              {Actions: []Action{Conjunction(1, 3, 2)}},
		"nat of both":                         {Actions: []Action{CT(Conntrack{NAT: &NAT{Source: true, Destination: true}})}},
		"do not fit in a message":             {Actions: []Action{Note(make([]byte, 40_000)), Note(make([]byte, 40_000))}},
		"too long":                            {Actions: []Action{Note(make([]byte, 70_000))}},
		"table 255 does not exist":            {Table: 255},
		"set_field: MAC":                      {Actions: []Action{SetEthDst(net.HardwareAddr{1})}},
		"ct exec: invalid(register 99":        {Actions: []Action{CT(Conntrack{Exec: []Action{LoadReg(99, 1)}})}},
		"MAC \"01:00:00:00:00:00\" with mask": {Match: Any().EthDstMasked(net.HardwareAddr{1, 0, 0, 0, 0, 0}, nil)},
	}
	for want, f := range cases {
		if err := f.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
}
