"""JPEG files of one small drawing that Pillow cannot write, by libjpeg-turbo's cjpeg, in base 85.

    cjpeg -quality 60 -optimize OPTIONS drawing.ppm

The drawing is `jpeg.drawing()`, and the options are the names' own: `-arithmetic`, `-progressive`,
`-sample 1x2` (440), `4x1` (411), `4x2` (410), `1x1,2x2,1x2` (chroma-larger), `-rgb`, `-restart 1`,
and a script of one scan for each channel.
"""

from __future__ import annotations

import base64

_ENCODED = {
    "arithmetic": """
|JeWF01!$>Nk#wx0RR9200961|JwjV01XKW3knDg3knMk4h;_zAQcl55)&sJ9v2`kDKRiEDJ?8BI!Zn>HbyrrEkIX6
ModmpQ&KWMT47pHU`kO^PygEhLjevB4iga*CKVMXPc<zyPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%z
Pft%zPft%zPft%zPf!2J01*fP4FDAb0U`hb5di}c0sqVZ3IGrg1pyEd1^?Or3<CiG0ucid06zf#0BGR_iadRtp7Zlk
h{$9~`63#-(2sWpI~^*Yy)D@(tETZ30j6KozIu{n7j=)>SuJ^QFgX4t6SYP}esQ2^KI?nCe<&t-
6=%)YLA6m(ODg@G`p1I`i_}JhLO?vUNtn4)<B0;Jc60_~Z#Bvm+!}@PzT5xV
""",
    "arithmetic-progressive": """
|JeWF01!$>Nk#wx0RR9200961|JwjV01XKW3knDg3knMk4h;_zAQcl55)&sJ9v2`kDKRiEDJ?8BI!Zn>HbyrrEkIX6
ModmpQ&KWMT47pHU`kO^PygEhLjevB4iga*CKVMXPc<zyPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%z
Pft%zPft%zPft%zPf!2K01*fP4FDAb0U`hb5di}c0sqVZ1^^HN5dYc$3<CiG0uTcb00060(ZWZ<JifMw+<5=Y00a;P
|Jncu0RaF31p*iu6Y;plbCl1JkE@_2;Q!131Q7-
Q+5iXv0|5a)0TpZ<D#9ZXo1p*900a>Q|Jncu0RjO5KLHK{Y4G4xyFmZU00a;P|Jncu0RaF8KLXMv2b0!%RgnM800a;
P|Jncu0RaF3KOw7{jJ+X=65^xC$$g%E;-LT901N{G00IC50000Gw!r_)00a>Q|Jncu0RsU6KM-ynq_}N6kpIj81Q7-
Q+5iXv0s#R(5cH>VsOp3REl0oq%m4%s1^?Or2mt{A0Y4C`K&4Uf66#w6(zg$kp{11}>jc!QULKraRoBZI;Q!e
""",
    "440": """
|JeWF01!$>Nk#wx0RR9200961|JwjV01XKW3knDg3knMk4h;_zAQcl55)&sJ9v2`kDKRiEDJ?8BI!Zn>HbyrrEkIX6
ModmpQ&KWMT47pHU`kO^PygEhLjevB4iga*CKVMXPc<zyPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%z
Pft%zPft%zPft%zPf!2A01*fP4FDAb0TKWL5di}c0sq7R7XSbQ0RR910000000000000981_b}a045Ls0Rsa91qA>A
00000000010s|2M1O*Zk1{5JNVIo0Mk<$Of02l!P0s{a50000000000000001p)&G|HJ?!5dZ)M0tE#C0000000000
000330}%uv5)&~&VFgja(c%Bv01N{G00I#M5dc2`n6Sg@k4;+G*)_C0n5r3hIYi=$X2By}QBwgurXd|68op1pF}%*T
jmWuY$cF<;NDAGFkPm3{Q&wV=i3li|+gtaa8dzv49IAB$v=ou@UdDzo2`T7={S!fFiEm0sELoV2=vV56(?5*M0Zq8u
iw8}ju0D_d*#
""",
    "411": """
|JeWF01!$>Nk#wx0RR9200961|JwjV01XKW3knDg3knMk4h;_zAQcl55)&sJ9v2`kDKRiEDJ?8BI!Zn>HbyrrEkIX6
ModmpQ&KWMT47pHU`kO^PygEhLjevB4iga*CKVMXPc<zyPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%z
Pft%zPft%zPft%zPf!2A01*fP4FDAb0YLx)5di}c0sq7R82|tR0|5X40000000000000050RjUC|HJ?$5C8!K0|EsF
0000000000009635d#DT5)%d#Au(YhK~a&?|HJ?n0RRI5000000000000000009F81^>hVBM|@r1ONmF0000000000
000310s{mE1`!eyAu(ZrvGD)e01N{G00I#M5dc2`<}5J!qtc$*Vj0pItK|D9G%*b==*ImLgqa&3A)wc|C(_Wv?j4;}
SlLqA9!xARGqka}8kT&Bs3|$1J9Z{OJ)_FC9wogkAkech9oX;E5sI5^w{z6Fexqlv#CwmAivQU
""",
    "410": """
|JeWF01!$>Nk#wx0RR9200961|JwjV01XKW3knDg3knMk4h;_zAQcl55)&sJ9v2`kDKRiEDJ?8BI!Zn>HbyrrEkIX6
ModmpQ&KWMT47pHU`kO^PygEhLjevB4iga*CKVMXPc<zyPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%z
Pft%zPft%zPft%zPf!2A01*fP4FDAb0YU%*5di}c0sq7R82|tR0|5X40000000000000050RjUC|HJ?$5C8!K0|EsF
0000000000009635d#DT5)%d#Au(YhK~a&?|HJ?l0RaI300000000000000000RX7!~h);00II51poj50000000000
0RsR61O*ZkF>(Le01N{G00I#M5dc2`<}5J!qtc$*Vj0pItK|D9G%*b==*ImLg%&ncwuh4o3(V~-
Zbqe_A}R__Xb#<pkPm3`tw)J(OGq><%tv-R^n_e&Xa<!B*<Oy!ho^lypa0n
""",
    "chroma-larger": """
|JeWF01!$>Nk#wx0RR9200961|JwjV01XKW3knDg3knMk4h;_zAQcl55)&sJ9v2`kDKRiEDJ?8BI!Zn>HbyrrEkIX6
ModmpQ&KWMT47pHU`kO^PygEhLjevB4iga*CKVMXPc<zyPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%z
Pft%zPft%zPft%zPf!2A01*fP4FDAb0TBQKA^`&u0sq7R6#xMN00000000000000000098|HJ?x5C8!K0|WyA00000
0000000IF61ONpg5fT$IGEtNN!~huq00IL60000000000000000R#X81qT1b04xyz0RjUB1qlEE00000000010ucZM
F$4t?6d@B~ae<K{GC@M2vBA;s|Jncy0|5X65d#qbKL7}}csA(my)ebFB0)mhrJnS{FRBs|wt&32?hH*+LD%r#3CozQ
r~}ME<zJ4F&Q#8p7VH9;2Gd8>>K>e*i<>2|y<;NgmaA0E4%$DoR&DDy8hL!`k|h-
!AuYh4QKU$AW!EW7DN%N6?;Zd!5hJxtu(e{u-LjZ=mDGJl|Je
""",
    "rgb": """
|JeWT01iQ9Z(?NtWB>pF0095n07C!`2?`4e2n`Dg3l0tq4-
+626A}^=CmbFZATB8}FfJ)AEHgSvJ~K8(H!LkcS3yQhPEu1+GCo>iT2Nq0QBqI;zyJ{l01W^Y15yzHM-
c!*5di<h02lxP0RaI40000000000000061O)>J|HJ?>5C8!J1poyK2LJ#700000009CK00RUC5(X0#LZKBQA~7;EK~
Z612O~6bfs@kz+5ij#QUFH)LI40i02OE5j0rk9?BNBpb4U4C4u((Z4($7}be$abaE-LuEU9rvN4M(S&6|*yB?%7aG7
GZ;;4>F^Z9&{c()4qq*x?kS&2F1EW~P?flnhvECsZ?lduU{z$5&T`cy*t497(lP`EZUFS!8I8gdte%lhGn#gT4eQL<
T-
MvGgQEyFTm_ziEv<hW$}&<c)r#ADOgcmPrcg#QFKf6|+z=N@PkhX{&ZwQdS8@LnoM~VxmGw1DT)h?WjA5#h390?~l>
je^UPdxX_zMCss|SsS+xMGG(!-mPmCV5>k|@DM)NX0nS7C$N$*
""",
    "restarts": """
|JeWF01!$>Nk#wx0RR9200961|JwjV01XKW3knDg3knMk4h;_zAQcl55)&sJ9v2`kDKRiEDJ?8BI!Zn>HbyrrEkIX6
ModmpQ&KWMT47pHU`kO^PygEhLjevB4iga*CKVMXPc<zyPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%z
Pft%zPft%zPft%zPf!2A01*fP4FDAb0U`hb5di}c0sq7R7ytkR0RaF20000000000000031q25F!~iA`009F70tE#C
00000000000RRFK0|W&U69yC^F<~M>QIXRB!~hoo00RL40000000000000000RsdE|HJ?v5dZ=L0s#d80000000000
009C35d#DT5+ae&@c-
Qa1ONj6+5ij#0RRFK0}%i}0Ol+(`lHgW+F}{f8LQ;`D;73Xwuh4m7n#~v+>J{<L{t=<&>g!IARf`>B^<f{i)OFul5x
A4v%gL;W@w>^X>Ue1=#(VU;#<<v4GS|7-H!bs6RV!jVDmMKn{++T|Je
""",
    "three-scans": """
|JeWF01!$>Nk#wx0RR9200961|JwjV01XKW3knDg3knMk4h;_zAQcl55)&sJ9v2`kDKRiEDJ?8BI!Zn>HbyrrEkIX6
ModmpQ&KWMT47pHU`kO^PygEhLjevB4iga*CKVMXPc<zyPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%zPft%z
Pft%zPft%zPft%zPf!2A01*fP4FDAb0U`hb5di}c0sq7R7ytkQ0{{R30000000000000360s{vB!~iA`009F70tE#C
00000000000RjUN00adR69yC^F<~M>QIXRB+5iXv0RR9$0L)ln^+%?j+F}vX5v%0;Q<gCaDd>d#6GFzxt)b+_QF)zf
8<BF)kq!owkQKWVARf`?q|XxGl#p1nF&)sa)qnrQ02KiN0RR910000000000000011OLPT91#Em009L60000000000
000335dZ@OB9ZX_+5iXv0ucZ|0E#(u0T!8kaXVdlcn<Ub!~him0RaF20000000000000001P1@a02~nj00sj900000
00000000000RjUA5d{*_|Jncu0Rs^LKL92+W6!Tv%FI?J66m@=|Je
""",
}


def encoded_files() -> dict[str, bytes]:
    """Return the files by name."""
    return {name: base64.b85decode(text.replace("\n", "")) for name, text in _ENCODED.items()}
