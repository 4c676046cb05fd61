package pipeline

// A meaning is what to say of flows of one shape. {name} stands for what differs
// from flow to flow.
type meaning struct {
	table uint8
	flow  string // As Flow.String writes it, after the table.
	words string
}

// meanings are all shapes of flows that this package produces, in docs/pipeline.md's
// order. A test compiles nodes of every kind and finds each flow here.
var meanings = []meaning{
	{tableIngress, "priority=400,ip,in_port=2,nw_src={gateway} actions=goto_table:30",
		"from this node itself: sort by destination"},
	{tableIngress, "priority=300,ip,in_port=2,nw_src={subnet},nw_dst={cluster} actions=goto_table:25",
		"a pod's packet to a service, which the kernel has led to a backend: whose is it?"},
	{tableIngress, "priority=250,ip,in_port=2,nw_dst=224.0.0.0/4 actions=drop",
		"multicast of the node: never enters the pod network"},
	{tableIngress, "priority=200,arp,in_port=1,arp_spa={cluster},arp_tpa={subnet} actions=move:NXM_NX_TUN_ID[0..31]->NXM_NX_REG0[],goto_table:10",
		"ARP from other nodes for {subnet}: take the VNID from the tunnel, check the sender"},
	{tableIngress, "priority=200,ip,in_port=1,nw_src={cluster} actions=move:NXM_NX_TUN_ID[0..31]->NXM_NX_REG0[],goto_table:10",
		"from pods of other nodes: take the VNID from the tunnel, check the sender"},
	{tableIngress, "priority=200,ip,in_port=1,nw_dst={cluster} actions=move:NXM_NX_TUN_ID[0..31]->NXM_NX_REG0[],goto_table:10",
		"from other nodes to pods: take the VNID from the tunnel, check the sender"},
	{tableIngress, "priority=200,arp,in_port=2,arp_spa={gateway},arp_tpa={cluster} actions=goto_table:30",
		"ARP from this node for pods of {cluster}: sort by destination"},
	{tableIngress, "priority=200,ip,in_port=2 actions=goto_table:30",
		"from outside, routed by this node: counts as VNID 0, sort by destination"},
	{tableIngress, "priority=150,in_port=1 actions=drop", "anything else from the tunnel: dropped"},
	{tableIngress, "priority=150,in_port=2 actions=drop", "anything else from the node: dropped"},
	{tableIngress, "priority=100,arp actions=goto_table:20", "ARP from a pod: check the source"},
	{tableIngress, "priority=100,ip actions=goto_table:20", "from a pod: check the source"},
	{tableIngress, "priority=0 actions=drop", "neither IPv4 nor ARP: dropped"},

	{tableTunnel, "priority=100,tun_src={node} actions=goto_table:30", "the tunnel's sender {node} is a node of ours: sort by destination"},
	{tableTunnel, "priority=0 actions=drop", "the tunnel's sender is a stranger: dropped"},

	{tablePod, "priority=300,udp,tp_dst={port} actions=drop", "a pod that speaks the tunnel's protocol (UDP port {port}): dropped"},
	{tablePod, "priority=300,ip,nw_proto=47 actions=drop", "a pod that speaks the tunnel's protocol (GRE): dropped"},
	{tablePod, "priority=100,arp,in_port={port},arp_spa={pod},arp_sha={mac} actions=load:{vnid}->NXM_NX_REG0[],goto_table:30",
		"ARP from pod {pod} at its own port {port}: VNID {vnid}, sort by destination"},
	{tablePod, "priority=100,ip,in_port={port},nw_src={pod} actions=load:{vnid}->NXM_NX_REG0[],goto_table:21",
		"from pod {pod} at its own port {port}: VNID {vnid}"},
	{tablePod, "priority=0 actions=drop", "the source address is not this port's pod: spoofed, dropped"},

	{tablePassage, "priority=0 actions=goto_table:30", "no egress policy: sort by destination"},

	{tableReturn, "priority=100,ip,nw_src={pod} actions=load:{vnid}->NXM_NX_REG0[],goto_table:30",
		"back from the kernel, from pod {pod}: VNID {vnid} again"},
	{tableReturn, "priority=100,ip,nw_src={pod} actions=load:{vnid}->NXM_NX_REG0[],ct(commit,zone={zone}),goto_table:30",
		"back from the kernel, from pod {pod}: VNID {vnid} again, remember the connection to know its answer"},
	{tableReturn, "priority=0 actions=drop", "back from the kernel, from a pod that is not there: dropped"},

	{tableRoute, "priority=300,arp,arp_tpa={gateway} actions=output:2", "ARP for the gateway {gateway}: the kernel answers at tun0"},
	{tableRoute, "priority=300,ip,nw_dst={gateway} actions=output:2", "to the gateway {gateway}: out by tun0"},
	{tableRoute, "priority=275,ip,in_port=2,nw_dst={subnet} actions=goto_table:70", "from the kernel to a pod of this node"},
	{tableRoute, "priority=250,ct_state=-trk,ip,nw_src={cluster},nw_dst={subnet} actions=ct(table=30,nat)",
		"to a pod of this node: if it answers a service's client, it is from the service's address"},
	{tableRoute, "priority=250,ct_state=-trk,ip,nw_src={cluster},nw_dst={subnet} actions=ct(table=30,zone={zone})",
		"to a pod of this node: does it answer a service's client?"},
	{tableRoute, "priority=200,arp,arp_tpa={subnet} actions=goto_table:40", "ARP for a pod of this node"},
	{tableRoute, "priority=200,ip,nw_dst={subnet} actions=goto_table:70", "to a pod of this node"},
	{tableRoute, "priority=100,arp,arp_tpa={cluster} actions=goto_table:50", "ARP for a pod of another node"},
	{tableRoute, "priority=100,ip,nw_dst={services} actions=goto_table:60", "to a service address of {services}"},
	{tableRoute, "priority=100,ip,nw_dst={cluster} actions=goto_table:90", "to a pod of another node"},
	{tableRoute, "priority=50,ip,in_port=1,nw_dst=224.0.0.0/4 actions=drop", "multicast from another node: dropped, multicast is not there yet"},
	{tableRoute, "priority=25,ip,nw_dst=224.0.0.0/4 actions=drop", "multicast of a pod: dropped, multicast is not there yet"},
	{tableRoute, "priority=0,ip actions=goto_table:100", "to the world outside"},
	{tableRoute, "priority=0,arp actions=drop", "ARP for an address outside of the cluster: dropped"},

	{tableARPLocal, "priority=100,arp,arp_tpa={pod} actions=output:{port}", "ARP for pod {pod}: out of its port {port}"},
	{tableARPLocal, "priority=0 actions=drop", "ARP for an address of this node that no pod has: dropped"},

	{tableARPRemote, "priority=100,arp,arp_tpa={subnet} actions=move:NXM_NX_REG0[]->NXM_NX_TUN_ID[0..31],set_field:{node}->tun_dst,output:1",
		"ARP for a pod of {subnet}: through the tunnel to node {node}"},
	{tableARPRemote, "priority=0 actions=drop", "ARP for a subnet that no node has: dropped"},

	{tableService, "priority=200,reg0=0 actions=output:2", "VNID 0 to any service: the kernel finds a backend"},
	{tableService, "priority=100,tcp,nw_dst={service},tp_dst={port} actions=load:{vnid}->NXM_NX_REG1[],load:0x2->NXM_NX_REG2[],goto_table:80",
		"to service {service} of VNID {vnid} at TCP port {port}: may it leave by tun0?"},
	{tableService, "priority=100,udp,nw_dst={service},tp_dst={port} actions=load:{vnid}->NXM_NX_REG1[],load:0x2->NXM_NX_REG2[],goto_table:80",
		"to service {service} of VNID {vnid} at UDP port {port}: may it leave by tun0?"},
	{tableService, "priority=100,sctp,nw_dst={service},tp_dst={port} actions=load:{vnid}->NXM_NX_REG1[],load:0x2->NXM_NX_REG2[],goto_table:80",
		"to service {service} of VNID {vnid} at SCTP port {port}: may it leave by tun0?"},
	{tableService, "priority=100,ip,nw_dst={service},nw_frag=later actions=load:{vnid}->NXM_NX_REG1[],load:0x2->NXM_NX_REG2[],goto_table:80",
		"later fragments, which have no port, to service {service} of VNID {vnid}: may they leave by tun0?"},
	{tableService, "priority=0 actions=drop", "a tenant to a service port that does not exist: dropped"},

	{tableLocal, "priority=200,ct_state=+rpl+trk,ip,nw_dst={pod} actions=load:{vnid}->NXM_NX_REG1[],load:0x2->NXM_NX_REG2[],set_field:{mac}->eth_dst,goto_table:80",
		"a backend's answer to pod {pod} of VNID {vnid}: if it may enter, by way of tun0, where the kernel gives it the service's address"},
	{tableLocal, "priority=100,ip,nw_dst={pod} actions=load:{vnid}->NXM_NX_REG1[],load:{port}->NXM_NX_REG2[],goto_table:80",
		"to pod {pod} of VNID {vnid} at port {port}: may it enter?"},
	{tableLocal, "priority=0 actions=drop", "to an address of this node that no pod has: dropped"},

	{tableAdmission, "priority=300,ip,nw_src={gateway} actions=output:NXM_NX_REG2[]", "this node may reach all its pods"},
	{tableAdmission, "priority=200 actions=output:NXM_NX_REG2[]", "everybody may reach everybody (subnet mode)"},
	{tableAdmission, "priority=200,reg0=0 actions=output:NXM_NX_REG2[]", "VNID 0 may reach everybody"},
	{tableAdmission, "priority=200,reg1=0 actions=output:NXM_NX_REG2[]", "everybody may reach VNID 0"},
	{tableAdmission, "priority=100,reg0={vnid},reg1={vnid} actions=output:NXM_NX_REG2[]", "VNID {vnid} may reach VNID {vnid}"},
	{tableAdmission, "priority=0 actions=drop", "to another tenant: dropped"},

	{tableRemote, "priority=100,ip,nw_dst={subnet} actions=move:NXM_NX_REG0[]->NXM_NX_TUN_ID[0..31],set_field:{node}->tun_dst,output:1",
		"to a pod of {subnet}: through the tunnel to node {node}, with the VNID"},
	{tableRemote, "priority=0 actions=drop", "to a subnet that no node has: dropped"},

	{tableLeave, "priority=200,tcp,nw_dst={node},tp_dst=53 actions=output:2", "DNS at this node: out by tun0 in any case"},
	{tableLeave, "priority=200,udp,nw_dst={node},tp_dst=53 actions=output:2", "DNS at this node: out by tun0 in any case"},
	{tableLeave, "priority=0 actions=goto_table:101", "no egress IP: leave by this node"},

	{tableLast, "priority=0 actions=output:2", "out by tun0: the kernel routes and masquerades"},

	{tableMarker, "priority=32768 actions=note:{mode}.{version}.44.4d.53.4b", "marker: Damask set this bridge up, {mode} mode, rule version {version}"},
}
