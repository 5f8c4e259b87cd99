r"""Answers by the kind of writing that graders stumble over: `gold ;; answer`, right ones first.

`\\n` is a line break. Wrong answers differ in a digit far behind, a case, a base, a prime, a bound or a name.
"""


def _pairs(table: str) -> list[tuple[str, str]]:
    rows = (row.replace(" \\n ", "\n").split(" ;; ") for row in table.strip().splitlines())
    return [(gold, answer) for gold, answer in rows]


RIGHT = _pairs(r"""
340 ;; 340 \text{ m/s}
9.8 ;; 9.8 \text{ m/s}^2
9.8 ;; 9.8\,\text{m}\cdot\text{s}^{-2}
3e8 ;; 3\times10^8\ \text{m/s}
18 ;; 18 \text{ °C}
18 ;; 18^\circ\mathrm{C}
18 ;; 18\,\Omega
18 ;; 18\,\mu\text{m}
18 ;; 18 \text{ cm}^{-1}
12 ;; 12 \text{ N·m}
12 ;; 12\ \mathrm{N\cdot m}
12 ;; 12 \mathrm{~N} \cdot \mathrm{m}
0.5 ;; 0.5 \text{ A}
2.5 ;; 2.5 \text{ g/L}
2.5 ;; 2.5\ \mathrm{g\,cm^{-3}}
6 ;; 6 \text{ V}
60 ;; 60 \text{ W}
3 ;; 3 \text{ s}
3 ;; 3\,\mathrm{s}
100 ;; 100\,^\circ\text{C}
5 ;; 5 \text{ (cm)}
5 ;; 5 \text{ km/h}
5 ;; 5 \text{ L}
4.2 ;; 4.2 \text{ kJ/mol}
4.2 ;; 4.2\,\frac{\text{kJ}}{\text{mol}}
9 (apples) ;; 9
5 (cm) ;; 5
5 (cm) ;; 5 \text{ cm}
12 (square meters) ;; 12
25 \text{ km}^2 ;; 25
7 ;; 7 \text{ integers}
12 ;; 12 \text{ positive integers}
25 ;; 25 \text{ real solutions}
7 \text{ distinct integers} ;; 7
24 ;; 2 \text{ dozen}
36 ;; 3 dozen
5000000 ;; 5 \text{ million}
3 ;; 3 \text{ odd numbers}
4 ;; 4 \text{ ordered pairs}
6 ;; 6 \text{ ways}
6 ;; 6 \text{ more apples}
8 ;; 8 \text{ apples each}
10 ;; 10 \text{ even numbers}
15 ;; 15 \text{ different ways}
2 ;; 2 \text{ real roots}
2 ;; 2 \text{ negative roots}
-1 ;; i^2
2i ;; (1+i)^2
5 ;; |3+4i|
\frac12-\frac12 i ;; \frac{1}{1+i}
-\frac12+\frac{\sqrt3}{2}i ;; e^{2\pi i/3}
-1 ;; e^{i\pi}
-i ;; i^3
6e^{i\pi/3} ;; 3+3i\sqrt3
1 ;; i^{4}
2 ;; (1+i)(1-i)
-2i ;; \frac{2}{i}
-7+24i ;; (3+4i)^2
\sqrt{2} ;; |1+i|
11,\! 111,\! 111,\! 100 ;; 11111111100
32349 ;; 32,\;349
32349 ;; 32,\! 349
1000000 ;; 1\;000\;000
1000000 ;; 1,\,000,\,000
12,\!345.6 ;; 12345.6
\frac{KL}{LM}=\frac{2}{7} ;; \frac{2}{7}
|KL|=9 ;; 9
KL:LM=2:7 ;; 2:7
KL:LM=2:7 ;; \frac{2}{7}
\sin\alpha=\frac35 ;; \frac35
a+b=17 ;; 17
\log_2 x=3 ;; 3
p=5,q=3;p=7,q=3 ;; (5,3),(7,3)
p=5,q=3;p=7,q=3 ;; (7,3),(5,3)
x_1=2,y_1=3;x_2=4,y_2=5 ;; (2,3),(4,5)
S_{KLM}:S_{KNP}=3:8 ;; 3:8
x=3 ;; 3=x
xy=12 ;; 12
x+y=7 ;; 7
\angle A = 30^\circ ;; 30
\tan B = 2 ;; 2
AB \cdot CD = 12 ;; 12
|AB|+|CD|=5 ;; 5
\frac{a}{b} = 3 ;; 3
f(3)=7 ;; 7
P(A)=\frac13 ;; \frac13
a_{2024}=5 ;; 5
\sqrt{a+b}=3 ;; 3
n^2=49 ;; 49
S=\frac{\sqrt3}{4} ;; \frac{\sqrt3}{4}
8.24 ;; \approx 8.24
x \approx 8.24 ;; 8.24
8.24 ;; x \approx 8.24
5 ;; \text{about } 5
5 ;; \text{approximately } 5
5 ;; approximately 5
5 ;; \approx 5 \text{ km}
\sqrt{2} ;; \sqrt2 \approx 1.41
1.414 ;; \sqrt2 \approx 1.414
\frac{22}{7} \approx 3.14 ;; 3.14
t \approx 12.5 \text{ years} ;; 12.5
t \approx 12.5 \text{ years} ;; t = 12.5
x\approx 1.3098 ;; x \approx 1.3098
0.56 = 56\% ;; 0.56
0.56 = 56\% ;; 56\%
56\% ;; 0.56 = 56\%
56\% ;; 56\% = 0.56
\frac14 = 25\% ;; 25\%
5 ;; \large 5
5 ;; \textcolor{red}{5}
5 ;; \color{blue}{5}
5 ;; {\color{red} 5}
5 ;; \underline{5}
5 ;; \underline{\underline{5}}
5 ;; **5**
5 ;; `5`
5 ;; *5*
5 ;; 5 \checkmark
5 ;; 5 ✓
5 ;; \text{Answer: } 5
5 ;; \text{Total: } 5
5 ;; \text{Answer:}\ 5
5 ;; Answer: 5
5 ;; \textbf{Answer: 5}
5 ;; \text{Final answer: } 5
5 ;; 5 \quad \blacksquare
5 ;; 5 \quad \square
\frac12 ;; \nicefrac12
\frac12 ;; \sfrac{1}{2}
5 ;; \displaystyle 5
5 ;; \Huge 5
5 ;; \mathbf{5}
5 ;; \boxed{\mathbf{5}}
\frac12 ;; \displaystyle\frac{1}{2}
5 ;; \colorbox{yellow}{5}
5 ;; \therefore 5
5 ;; = 5
f(x)=2x ;; f(x)=2x \text{ for all } x
f(x)=2x ;; f(x)=2x \text{ for all real } x
f(x)=2x ;; f(x)=2x \quad \forall x \in \mathbb{R}
f(x)=2x ;; f(x)=2x, \text{ for every } x\in\mathbb{R}
f(n)=n+1 ;; f(n)=n+1 \text{ for all positive integers } n
2x^3 ;; 2x^3 \text{ for any real constant}
Ce^x ;; Ce^x \text{ where } C \text{ is an arbitrary constant}
f(x)=cx ;; f(x)=cx \text{ for some constant } c
f(x)=cx ;; f(x) = cx, where c is a real constant
180-2\alpha ;; 180^\circ-2\alpha
180^\circ-2\alpha ;; 180-2\alpha
90+\frac{x}{2} ;; 90^\circ+\frac{x}{2}
exp(-2*t) ;; e^{-2t}
e^{-2t} ;; exp(-2*t)
e^{-2t} ;; \exp(-2t)
x**2+1 ;; x^2+1
sqrt(x+1) ;; \sqrt{x+1}
2*sin(x) ;; 2\sin x
|x-1| ;; abs(x-1)
(x+1)/(x-1) ;; \frac{x+1}{x-1}
x^(1/2) ;; \sqrt{x}
max(1,x) ;; \max(1,x)
ln(2)/2 ;; \frac{\ln 2}{2}
x=1, y=2 ;; $x=\boxed{1}$ and $y=\boxed{2}$
(1,2) ;; $x=\boxed{1}, y=\boxed{2}$
x=1, y=2 ;; $x = \boxed{1}$, $y = \boxed{2}$
a=3, b=4 ;; $b=\boxed{4}$, $a=\boxed{3}$
m=1,n=1 ;; $m=\boxed{1}, n=\boxed{1}$
C ;; \text{Option C}
C ;; \text{choice C}
C ;; (C)
C ;; \textbf{C}
C ;; C)
C ;; \text{C.}
E ;; E - a risk score
E ;; \text{E) a risk score}
E ;; \text{(E) a risk score}
BC ;; B, C
BC ;; B,C
B, C ;; BC
A, C, D ;; ACD
C ;; C. 12
C ;; \text{Answer: C}
9 ;; 9本
25 ;; 25\text{平方厘米}
25 ;; 25平方厘米
3或5 ;; 3, 5
3或5 ;; 5或3
①③ ;; ①③
①③ ;; ③①
①③ ;; ①、③
{x|－2≤x<1} ;; [-2,1)
{x|－2≤x<1} ;; \{x \mid -2 \le x < 1\}
1.5万 ;; 15000
15000 ;; 1.5万
15000元 ;; 1.5万元
10 ;; 10元
3 ;; 3个
9 ;; 9（本）
60 ;; 60千米/小时
[-2,7] ;; -2 \\le x \\le 7
x \in [-2,7] ;; -2 \\le x \\le 7
\frac12 ;; \\frac{1}{2}
\sqrt{2} ;; \\sqrt{2}
0.125 ;; ⅛
\frac12 ;; 1⁄2
\mathbb{R}\setminus\{0\} ;; ℝ∖{0}
\mathbb{R}\setminus\{0\} ;; \mathbb{R} \backslash \{0\}
\mathbb{R}^+ ;; (0,\infty)
(0,\infty) ;; \mathbb{R}^+
(0,\infty) ;; \mathbb{R}_{>0}
\mathbb{R}\setminus\{0\} ;; x \neq 0
x \neq 0 ;; (-\infty,0)\cup(0,\infty)
x \neq 2, 3 ;; x \ne 2 \text{ and } x \ne 3
x \neq 2, 3 ;; x \ne 3, x\neq 2
\begin{cases}x=1\\y=2\end{cases} ;; (1,2)
\begin{cases}x=1\\y=2\end{cases} ;; x=1, y=2
x=1, y=2 ;; \begin{cases}x=1,\\y=2.\end{cases}
(1,2) ;; \begin{cases}x=1\\y=2\end{cases}
\left\{\begin{array}{l}x=1\\y=2\end{array}\right. ;; (1,2)
x=1, y=2 ;; x = 1 \\ y = 2
J: 4 hr, S: 14 hr ;; J: 4 hr, S: 14 hr
J: 4 hr, S: 14 hr ;; S: 14 hr, J: 4 hr
J: 4 hr, S: 14 hr ;; J = 4, S = 14
x=k\pi, k\in Z ;; x=k\pi, k \in \mathbb{Z}
x=k\pi, k\in Z ;; x = \pi k, k \in \mathbb{Z}
\text{October 30} ;; October 30
See the proof above. ;; See the proof above.
All primes p > 3 such that p divides n ;; All primes $p > 3$ such that $p$ divides $n$
1, 2, \ldots, n ;; 1,2,\dots,n
2,3 ;; 2 \quad 3
2,3 ;; 2 \qquad 3
2,3 ;; 2 \\ 3
2,3 ;; 2 \text{ and } 3
2,3 ;; 2; 3
2, 3 ;; 2 \& 3
5:3 ;; 5\text{ to }3
5:3 ;; 5 to 3
(1,2),(3,4) ;; (1,2) \quad (3,4)
(1,2),(3,4) ;; (1,2) \text{ and } (3,4)
i^{26}=1\cdot(-1)=-1 ;; -1
2^5=32 ;; 32
-37_8 ;; -37_{8}
-37_8 ;; -37_{\text{8}}
\text{A5}_{11} ;; A5_{11}
1.1_2 ;; 1.1_{2}
f'(x) ;; f^{\prime}(x)
f''(x)+1 ;; 1+f''(x)
\frac{dy}{dx}=2x ;; 2x
y''+y=0 ;; y''=-y
x^2+1=0 ;; 2x^2+2=0
x^2+1=0 ;; x^2=-1
3x+4y=12 ;; \frac{x}{4}+\frac{y}{3}=1
y=2x+3 ;; 2x-y+3=0
y=2x+3 ;; y-2x=3
x+y<3 ;; 2x+2y<6
x+y<3 ;; 3>x+y
|x-2| ;; |2-x|
\lfloor n/2 \rfloor ;; \left\lfloor \frac{n}{2} \right\rfloor
\max(x,y) ;; \max(y,x)
2^{2024}+1 ;; 1+2^{2024}
2^{2024}+1 ;; 4^{1012}+1
\frac{1}{2^{99}} ;; 2^{-99}
\sqrt{3+2\sqrt2} ;; 1+\sqrt2
\frac{\sqrt6+\sqrt2}{4} ;; \cos 15^\circ
\cos\frac{\pi}{12} ;; \frac{\sqrt6+\sqrt2}{4}
\ln 2 ;; \log_e 2
\log_2 3 ;; \frac{\ln 3}{\ln 2}
2^x ;; e^{x\ln 2}
\frac{x}{3} ;; \frac13 x
0.5x ;; \frac{x}{2}
\sin 2x ;; 2\sin x\cos x
\tan x ;; \frac{\sin x}{\cos x}
(2k+1)!! ;; (2k+1)!!
n!(n+1) ;; (n+1)!
\binom{n}{2} ;; \frac{n(n-1)}{2}
\frac{1}{6} n(n+1)(2n+1) ;; \frac{n(n+1)(2n+1)}{6}
A\cap B ;; A \cap B
\text{Yes} ;; yes
no ;; No
\text{True} ;; true
\text{no solution} ;; No solution
""")

WRONG = _pairs(r"""
x<1 \text{ or } x>2 ;; x<1 \text{ and } x>2
(-\infty,1) \cup (2,\infty) ;; x<1 \text{ and } x>2
x=-3 \text{ or } x=11 ;; x=-3 \text{ or } k=11
x=-3 \text{ or } x=3 ;; -x=-3 \text{ or } x=3
(x, y, z)=(4,1,1) ;; (x, y, k)=(4,1,1)
(-\infty,-2]\cup[1,\infty) ;; (-\infty,-2]\cup[1,\infty]
3 ;; -x=3
2^{2008} -2 ;; 2^{2008}+2
10^{40}+1 ;; 10^{40}
2023!+1 ;; 2023!
1-\frac{1}{2^{2024}} ;; 1
3^{100}-2^{100} ;; 3^{100}
\sqrt{2}+\frac{1}{2^{500}} ;; \sqrt{2}
10^{60}\sqrt{2}+1 ;; 10^{60}\sqrt{2}
\frac{10^{2020}-1}{9} ;; \frac{10^{2020}}{9}
2^{1000}x+x ;; 2^{1000}x
\binom{2000}{1000} ;; \binom{2000}{1000}+1
\sqrt{10^{100}+1} ;; 10^{50}
e^{-1000} ;; 0
e^{-1000} ;; e^{-1001}
10^{-30}\pi ;; 0
100!+1 ;; 100!
7^{2023} \cdot 2 + 3 ;; 7^{2023} \cdot 2 + 5
x \ge 0, x \ne 4 ;; x \ge 3, x \ne 9
x \ne 7 ;; x \ne 9
x\neq 2,3 ;; x \neq 2,5
x\neq 2,3 ;; x \neq 2
x \neq 3 ;; 3
x \neq 3 ;; x=3
\{x \mid x \ge 0 \text{ and } x \ne 1\} ;; \{x \mid x \ge 2 \text{ and } x \ne 1\}
x \in [1,2) \text{ or } x=5 ;; x \in [0,9) \text{ or } x=5
x<1 \text{ or } x=3 ;; x<2 \text{ or } x=3
k>2 \text{ and } k \neq 3 ;; k>1 \text{ and } k \neq 3
a \neq 0, b \neq 1 ;; a\neq 0, b \neq 2
x \in \{1,2\} \text{ or } x>5 ;; x \in \{1,3\} \text{ or } x>5
x>0, y>0 ;; x>0, y>1
x>0, y>0 ;; x>0
t \approx 12.5 \text{ years} ;; t \approx 3
x \approx 1.3098 ;; x
x \approx 1.3098 ;; x \approx 1.4
h \approx 5 ;; h = 6
x \approx 2.3 ;; x \approx x
\theta \approx 36.9^\circ ;; \theta \approx 12
\pi \approx 3.14 ;; \pi \approx 3.15
\lceil n/2 \rceil+1 ;; \lceil n/4 \rceil+1
|x-2| ;; 2-x
|x-2| ;; x-2
\sqrt{(x-3)^2} ;; 3-x
\min(n,10) ;; n
\min(n,1000) ;; n
\ln|x+\sqrt{x^2-1}|+C ;; \ln|x-\sqrt{x^2-1}|+C
\lfloor x \rfloor ;; x
\lfloor x \rfloor ;; \lceil x \rceil - 1
\lfloor \frac{n}{2} \rfloor ;; \frac{n}{2}
\lfloor \frac{n}{2} \rfloor ;; \frac{n-1}{2}
\lfloor \frac{n^2}{4} \rfloor ;; \frac{n^2}{4}
\max(x, y) ;; x
\max(x,y) ;; \frac{x+y}{2}
|x|+|y| ;; x+y
|x| ;; \sqrt{x}^2
\frac{x}{|x|} ;; 1
\sqrt[4]{x^4} ;; x
\left\lfloor \log_2 n \right\rfloor+1 ;; \log_2 n
|a-b| ;; a-b
x^2+1=0 ;; x^2+2=0
x^2-2x+10=0 ;; x^2-2x+20=0
\lambda^2-2\lambda+5=0 ;; \lambda^2-2\lambda+10=0
x^2+y^2=-1 ;; x^2+y^2=-4
x^2+x+1=0 ;; x^4+1=0
e^x=-1 ;; e^x=-2
y''+y=0 ;; y''+2y=0
\frac{dy}{dx}=2x ;; \frac{dy}{dx}=3x
\frac{d^2y}{dx^2}=2x ;; \frac{dy}{dx}=2x
(x^2+1)(y^2+1)=0 ;; x^2+1=0
|x|=-1 ;; |x|=-2
\frac{dP}{dt}=kP ;; \frac{dP}{dt}=k
-37_8 ;; -37
-37_8 ;; 37_8
1.1_2 ;; 1.1_3
1.1_2 ;; 1.01_2
\text{A5}_{11} ;; \text{A5}_{13}
\text{A5}_{11} ;; \text{A6}_{11}
2B_{16} ;; 2C_{16}
101_2 ;; 101_{10}
1010_{\text{two}} ;; 1010_{\text{three}}
110_{2}+1_{2} ;; 110_{3}+1_{3}
y_1=1-x \n y_2=4x ;; y_1=2-x \n y_2=4x
y_1 = 1-x \\ y_2=4x ;; y_1 = 2-x \\ y_2=4x
y=\frac{c}{x} \quad y=-x ;; y=\frac{c}{x^2} \quad y=-x
x=1 \\ y=2 ;; x=3 \\ y=2
a=1 \n b=2 ;; b=2
x=1 \qquad y=2 ;; y=2
\begin{aligned} x&=1\\y&=2\end{aligned} ;; \begin{aligned} x&=3\\y&=2\end{aligned}
f'(x) ;; f(x)
f''(0) ;; f'(0)
f'(2)+1 ;; f(2)+1
y' ;; y
y''+y ;; y'+y
f^{\prime}(x) ;; f(x)
2f'(x)g(x) ;; 2f(x)g'(x)
2f'(x)g(x) ;; 2f(x)g(x)
A^T ;; A
2A^{T} ;; 2A
\vec{v} ;; v
\overline{z} ;; z
\hat{x} ;; x
2^x ;; e^{x \log_{10} 2}
2 ;; e^{\log_{10} 2}
3^{x+1} ;; e^{(x+1)\log_2 3}
x^2 ;; e^{2\log_{10} x}
\log_2 5 ;; \log_3 5
\log_2 x ;; \log_3 x
\ln x ;; \log_{10} x
\log_a b ;; \log_b a
i^{26}=1\cdot(-1)=-1 ;; i^{26}=1\cdot(-1)=-2
2+2=2\cdot 2=4 ;; 2+2=2\cdot 2=5
3!=3\cdot 2=6 ;; 3!=3\cdot 2=7
(1+1)^2=2^2=4 ;; (1+2)^2=3^2=9
2^5=32 ;; 2^5=33
2^5=32 ;; 32=33
5 ;; 2(3)
7 ;; \gcd(a,b)
1 ;; \gcd(a,b)
ab ;; \text{lcm}(a,b)
2 ;; 2^T
\coth x ;; \cot(hx)
\Delta ;; \delta
2\Omega ;; 2\omega
\Gamma(x) ;; \gamma(x)
\frac{N}{2} ;; \frac{n}{2}
I^2 ;; -1
-1 ;; I^2
0 ;; x^2-4=0
0 ;; x=x
0 ;; y-y=0+x
4 ;; x^2+y^2=4
10 ;; 2x=10
x^2+y^2=4 ;; 4
x^2=4 ;; 4
2x+3y=6 ;; 6
y=2x+3 ;; y
x=5 ;; x
a+b=17 ;; a+b
a+b=17 ;; a+b=18
\frac{KL}{LM}=\frac27 ;; \frac{KL}{LM}
\frac{KL}{LM}=\frac27 ;; \frac{KL}{LM}=\frac37
KL:LM=2:7 ;; 3:8
KL:LM=2:7 ;; KL:LM
\sin\alpha=\frac35 ;; \sin\alpha
\sin\alpha=\frac35 ;; \cos\alpha=\frac35
p=5,q=3;p=7,q=3 ;; (5,3),(7,4)
p=5,q=3;p=7,q=3 ;; (3,5),(3,7)
p=5,q=3;p=7,q=3 ;; (5,3)
x_1=2,y_1=3;x_2=4,y_2=5 ;; (2,5),(4,3)
5:3 ;; 3:5
5 ;; 3 \approx 5
7 ;; 3 \approx 7+0
5 ;; 5 \approx 7
5 ;; 5 \text{ or more}
5 ;; \text{at least } 5
5 ;; \text{not } 5
5 ;; \text{more than } 5
5 ;; 5 \text{ if } n>2
5 ;; \text{between 5 and 6}
5 ;; 5 \text{ million}
5 ;; 5 \text{ dozen}
5 ;; \cancel{5} 6
\text{October 30} ;; \text{October 31}
J: 4 hr, S: 14 hr ;; J: 14 hr, S: 4 hr
x=k\pi, k\in \mathbb{Z} ;; x=k\pi
x=k\pi, k\in Z ;; x=2k\pi, k \in Z
x=k\pi, k\in Z ;; x=k\pi, k \in N
2k\pi, k \in \mathbb{Z} ;; 0
C ;; \text{Option D}
BC ;; B
BC ;; B, D
B, C ;; BCD
A ;; ABCD
A ;; A, B, C, D
\emptyset ;; (5,3)
\emptyset ;; (1,1)
\emptyset ;; 0
\emptyset ;; \{x \mid x < x\}
(1,2) ;; \sinh(\tan\frac{\pi}{2})
[0,1] ;; \sinh(\tan\frac{\pi}{2})
x > 4 ;; x > \infty+\tan\frac{\pi}{2}
\mathbb{R} ;; x \in \mathbb{R}, y \in \mathbb{R}
5 ;; x \in \mathbb{R}
5 ;; \mathbb{R}
5 ;; (-\infty,\infty)
50\% ;; 0.5\%
0.56 = 56\% ;; 0.57
(1,\;234) ;; 1234
(1,234) ;; 1234
9.8 \text{ m/s}^2 ;; 9.8 \text{ m/s}
5 \text{ cm} ;; 5 \text{ cm}^2
12 \text{ N} ;; 12 \text{ J}
18 \text{ °C} ;; 18 \text{ °F}
\infty ;; 5
5 ;; \infty
\infty ;; 2^\infty
\infty ;; \infty+\infty
\infty ;; \frac{1}{0}
-\infty ;; \infty
\text{ab} ;; ba
AB+CD ;; ABCD
a-b ;; \text{ab}
a_1 ;; a_2
x_{12} ;; x_{1}2
3+4i ;; 3-4i
i ;; -i
2i ;; 2
x+iy ;; x+y
\frac{1+i}{2} ;; \frac{1-i}{2}
\begin{pmatrix}1\\2\end{pmatrix} ;; \begin{pmatrix}1\\3\end{pmatrix}
\begin{pmatrix}1&2\\3&4\end{pmatrix} ;; \begin{pmatrix}2&2\\3&4\end{pmatrix}
\begin{cases}x=1\\y=2\end{cases} ;; \begin{cases}x=2\\y=1\end{cases}
\begin{cases}x=1\\y=2\end{cases} ;; (2,1)
\begin{cases}1 & x>0\\ 2 & x<0\end{cases} ;; \begin{cases}2 & x>0\\ 1 & x<0\end{cases}
9本 ;; 8本
3或5 ;; 3
①③ ;; ①②
1.5万 ;; 1.5
-2 \le x \le 7 ;; -2 < x \le 7
\mathbb{R}^+ ;; \mathbb{R}
\mathbb{R}^+ ;; [0,\infty)
\int_0^1 x\,dx ;; \int_0^1 x^2\,dx
\sum_{k=1}^{n} k ;; \sum_{k=1}^{n} k^2
x+y<3 ;; x+y>3
x+y<3 ;; x+y\le 3
2x+2y<6 ;; x+y<4
f(x)=2x \text{ for all } x ;; f(x)=3x
f(x)=2x ;; f(x)=2x \text{ for } x > 3
f(x)=2x ;; f(x)=2x \text{ for all even } x
\sin x ;; \cos x
\sqrt{x+1} ;; \sqrt{x}+1
\frac{1}{2}+C ;; \frac12
8.24 ;; \approx 8.25
340 \text{ m/s} ;; 341
3\times 10^8 ;; 3\times 10^7 \text{ m/s}
""")
