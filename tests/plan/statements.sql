-- One statement a line, over tables t and u of every type (sql_tables.py). `~`: `make nightly` only.
-- Rows must equal those of DataFusion alone, or of DuckDB where DataFusion is wrong.

-- # split: DataFusion gives the same rows
select * from t
select * from (select id, row_number() over (order by id) r from t) a join (select id, rank() over (partition by k order by id) q from u) b on a.id=b.id
select id, sum(s1) over (order by id) from (select id, sum(i64) over (partition by k order by id) s1 from t)
select id, sum(i64) over (partition by k order by id) x, sum(f64) over (partition by b order by id) y from t
~ select id from t where i64 > all (select i64 from u)
~ select id from t where i64 > any (select i64 from u)
select id from t where i64 = some (select i64 from u)
~ select id from t where i64 <> all (select i64 from u where i64 is not null)
~ select id from t where i64 > all (select i64 from u where i64 is not null)
select id from t where i64 > all (select i64 from u where false)
~ select id from t where i64 <= any (select i64 from u where k=t.k)
~ select id from t where k = any(array[1,2])
select id from t where k = any(select k from u)
~ select id, (select count(*) from u where u.k=t.k) from t
~ select id from t where k in (select k from u) or id<5
select id from t where exists (select 1 from u where u.k=t.k and u.i64>t.i64) or id<5
~ select a.id from t a join t b on a.k=b.k and a.id<b.id
~ with c as (select k, count(*) n from t group by k) select a.k,a.n,b.n from c a join c b on a.k=b.k
with c as (select * from t) select a.id,b.id from c a, c b where a.id=b.k
~ select k, b, count(*) from t group by grouping sets ((k),(b),())
~ select k, b, sum(i64), grouping(k), grouping(b) from t group by cube(k,b)
select k, array_agg(id order by id) from t group by k
~ select k, array_agg(distinct b order by b) from t group by k
~ select array_agg(id order by id desc) from t
select k, string_agg(s, ',' order by id) from t group by k
~ select k, first_value(id order by id), last_value(id order by id), nth_value(id,2 order by id) from t group by k
~ select count(distinct k), sum(distinct k), avg(distinct k) from t
select k, count(distinct s), count(distinct b) from t group by k
~ select k, sum(i64) filter (where b), count(*) filter (where not b) from t group by k
~ select median(f64), approx_distinct(k), approx_median(i64) from t
select k, median(f64) from t group by k
~ select k, percentile_cont(0.5) within group (order by f64) from t group by k
~ select k, stddev(f64), var_pop(f64), corr(f64,i64), covar_samp(f64,f32), regr_slope(f64,i64) from t group by k
select stddev(f64), var_pop(f64), corr(f64,i64), covar_samp(f64,f32), regr_slope(f64,i64), regr_count(f64,i64) from t
~ select k, bit_and(i64), bit_or(i64), bit_xor(i64), bool_and(b), bool_or(b) from t group by k
~ select sum(i8), sum(u8), sum(u32), sum(u64), sum(f32), sum(dec), avg(i8), avg(u64), avg(f32), avg(dec), min(s), max(s), min(d), max(ts), min(tz), max(tm), min(bin), max(b), min(dec) from t
select k, sum(i8), sum(u8), sum(u32), sum(u64), sum(f32), sum(dec), avg(i8), avg(u64), avg(f32), avg(dec), min(s), max(s), min(d), max(ts), min(tz), max(tm), min(bin), max(b) from t group by k
~ select distinct k, b from t
~ select distinct on (k) k, id from t order by k, id desc
select distinct li from t
~ select li, count(*) from t group by li
~ select st, count(*) from t group by st
select m from t group by m
~ select id from t order by st, id
~ select id from t order by li, id
select k from t intersect select k from u
~ select k from t except select k from u
~ (select id from t order by id limit 3) union all (select id from u order by id desc limit 2)
~ select * from t natural join u
select t.id, u.id from t join u using (k)
~ select * from (values (1,'a'),(2,null)) v(x,y)
~ values (1,2),(3,4)
select 1
~ select 1 where false
~ select count(*) from t, u
select id from t limit 5 offset 3
~ select id from t order by id offset 50
~ select id from t order by id limit 0
select * exclude (li, ls) from t
~ select * except (li, ls, lf, st, m) from t
~ select * replace (id+1 as id) from t
select t.*, u.id as uid from t join u on t.id=u.id
~ select id, case k when 0 then 'z' when 1 then 'o' end c from t
~ select id, d + interval '1 month', ts - interval '3 days 2 hours', ts - d, d - date '2019-01-01' from t
select id, extract(year from d), date_part('dow',d), date_part('epoch',ts), date_bin(interval '15 minutes', ts) from t
~ select id, k is null, k is not null, b is true, b is not false, b is unknown, k is distinct from 1, k is not distinct from null from t
~ select id, [1,2,k], make_array(k,id), array[s,'x'], struct(k,s), named_struct('p',k,'q',s), map {'a':k} from t
select list_sum(li) from t
select ntile(4) over (order by id), percent_rank() over (order by k), cume_dist() over (order by k), lead(id,2,-1) over (order by id), nth_value(id,3) over (order by id), dense_rank() over (order by k) from t
select id, sum(i64) over w, avg(f64) over w from t window w as (partition by k order by id rows 2 preceding)
select id, sum(i64) over (order by id rows between 2 following and 3 following) from t
select id, count(*) over (), sum(i64) over (partition by k) from t
select id, row_number() over (partition by k order by id) r from t qualify r = 1
select k, rank() over (order by sum(i64)) from t group by k
select id, max(i64) over (partition by k) - i64 from t where id in (select id from u)
select id, (select max(id) from u) + row_number() over (order by id), rank() over (order by k) from t
select id, sum(i64) over (order by id) - (select max(i64) from u) a, (select min(i64) from u) + sum(i64) over (partition by k) b from t
select x.r, y.r from (select id, row_number() over (order by id) r from t) x, (select id, row_number() over (order by id desc) r from u) y where x.id=y.id
select k, sum(id) over (partition by k), (select count(*) from u where u.k=t.k), rank() over (order by id) from t
~ select t.id from t join u on t.id = (select max(id) from u)
~ select t.id from t join u on t.id = u.id and t.k > (select min(k) from u)
select id from t order by (select max(id) from u), id
~ select k, count(*) from t group by k having count(*) > (select min(k) from u)
select id from t limit 2+3 offset 1+1
~ select id from t order by id limit all
~ select id, random() < 2 from t
select now() is not null
~ select uuid() is not null from t limit 3
~ select case when id > 5 then (select max(id) from u) else (select min(id) from u) end from t
select id from t where id between (select min(id) from u) and (select max(id)/2 from u)
~ select id from t where (select count(*) from u) > 5 and id < 4
~ select * from t a where a.i64 = (select max(b.i64) from t b where b.k=a.k)
select k, n from (select k, count(*) n from t group by k) where n = (select max(n) from (select count(*) n from t group by k))
~ with a as (select k, sum(i64) s from t group by k), b as (select max(s) m from a) select a.k from a, b where a.s=b.m
~ select * from t a join t b on a.id=b.id join t c on b.id=c.id
select a.* from t a join (select * from t) b using (id)
~ with c as (select * from t where id<20) select count(*) from c x join c y using (k) join c z using (k)
~ select * from (select id, k from t) a full join (select id, k from t) b on a.id=b.k
select a.id from t a left anti join t b on a.id=b.k
~ select a.id from t a where not exists (select 1 from t b where b.k=a.id)
~ select a.id from t a where a.id in (select b.k from t b where b.id <> a.id)
select id i, id i2, id+0 from t
~ select id as "A", k as "a" from t
~ select id as "" from t
select id as "x.y", k as "x""y" from t
~ select * from (select id, id+1 as id2, k as "id:1" from t) a join (select id from u) b on a.id=b.id
select range(3)
~ select generate_series(1,3), range(0,10,5)
select id, st.x, st['y'], li[1], li[-1], li[1:2], m['a'], {'a':1,'b':s} from t
select id, unnest(li) u from t
~ select id, unnest(li) u, unnest(ls) v from t
select id, unnest(st) from t
select u, count(*) n from (select unnest(li) u from t where k > 0) group by u order by u
~ with x as (select k, unnest(li) u from t) select k, sum(u) from x group by k order by k
~ select unnest(ls) u from t union all select s from t
~ select count(*) from (select unnest(li) from t)
~ select a.id, b.u from t a join (select id, unnest(li) u from t) b on a.id = b.id order by a.id, b.u
~ select unnest(v) w from (select unnest([li]) v from t)
select id from t where k in (select unnest(li) from t)
~ select id, s || 'x', s like 'a%', s not ilike '%B%', s ~ '^a', s !~* 'A', substring(s from 2 for 2), position('b' in s), overlay(s placing 'zz' from 2) from t
select id, case when k > 1 then st else null end from t

-- # one task: DataFusion gives the same rows
~ select (select max(id) from u) m, count(*) from t group by 1
~ select id, coalesce(st, null), nullif(st, null), st is not distinct from null from t
~ select sum(i64 + (select max(k) from u)) from t
select id, sum(i64 - (select avg(i64) from u)) over (order by id) from t
select k, (select max(r) from (select row_number() over (order by id) r from u)) , row_number() over (order by id) from t
select id, row_number() over (order by (select max(id) from u)), rank() over (partition by (select min(id) from u) order by k) from t
select id, sum(i64 - (select avg(i64) from u)) over (order by id), max(i64 + (select min(i64) from u)) over (partition by k) from t
select * from range(3)
~ select * from generate_series(1,5,2)
select r.value, t.id from range(5) r join t on t.k=r.value
~ select value from range(3) union all select k from t
select sum(value) from generate_series(1,100)
~ select k, count(*) from range(4) r join t on t.k = r.value group by k
with recursive r(n) as (select 1 union all select n+1 from r where n<5) select * from r
~ with recursive r(n) as (select 1 union all select n+1 from r where n<5) select r.n, t.id from r join t on t.k=r.n
select id, sum(i64) over (order by id groups between 1 preceding and current row) from t
~ select id, sum(i64) over (order by id range between 5 preceding and 1 following) from t
select id, first_value(s) ignore nulls over (order by id), last_value(s) over (partition by k order by id), lag(s) ignore nulls over (order by id) from t
~ select id, sum(i64) filter (where b) over (order by id), count(distinct k) over (partition by b) from t
select t.id from t left join u on t.id = u.id and t.k > (select min(k) from u)
with recursive r as (select id, k from t where id=0 union all select t.id, t.k from t join r on t.id=r.id+1 where t.id<5) select * from r
~ select * from unnest([1,2,3])
select * from unnest([1,2],[3,4,5])
~ select unnest([1,2,3])
select unnest(range(3))
~ select * from generate_series(date '2020-01-01', date '2020-01-05', interval '1' day)
select * from generate_series(timestamp '2020-01-01', timestamp '2020-01-02', interval '6' hour)
~ select * from range(0)
select * from range(5,1,-2)
~ select a.value, b.value from range(3) a cross join range(2) b
select a.value from range(10) a left join range(5) b on a.value=b.value where b.value is null
~ with r as (select value from range(5)) select * from r x join r y using (value)
select sum(value) over (order by value), row_number() over (order by value desc) from range(5)
~ select * from range(3) order by value desc limit 1
select * from t where id in (select value from range(3))
~ select id from t where id not in (select value from range(50))
select id from t where id > all(select value from range(50))
~ select * from generate_series(null)
select count(*) from range(100000)
~ select * from range(100000) limit 3
~ select distinct unnest(li) u from t order by u
~ select id, unnest(li) u from t where k > (select avg(k) from t)
with x as (select id, li from t where k > 1) select unnest(li) u from x order by u

-- # nulls: DuckDB gives the same rows, DataFusion not always
select id from t where i64 > all (select i64 from u)
select id from t where k = any (select k from t where k > 1)
~ select id from t where i64 > all (select i64 from t where i64 < 0)
select id from t where k <> all (select k from t where k > 1 and k is not null) or id = 1
~ select id from t where i64 <= some (with w as (select i64 from t where k = 1) select i64 from w)
~ select id from t where i64 > all (select i64 from u where i64 is not null)
~ select id from t where i64 > all (select i64 from u where false)
~ select id from t where i64 < all (select i64 from u where k=t.k)
select id from t where i64 >= any (select i64 from u)
~ select id from t where i64 >= any (select i64 from u where false)
~ select id from t where not (i64 > any (select i64 from u))
~ select id from t where not (i64 > any (select i64 from u where i64 is not null))
select id from t where i64 = all (select i64 from u where false)
~ select id from t where i64 <> all (select i64 from u)
~ select id from t where k <> all (select k from u where k is not null)
~ select id from t where k <> all (select k from u where k<2)
select id from t where k = any (select k from u)
~ select id from t where k = all (select k from u where k=1)
~ select id from t where k <> any (select k from u)
~ select id from t where k <> any (select k from u where k=1)
select id from t where not (k <> any (select k from u where k=1))
~ select id from t where not (i64 > all (select i64 from u where i64 is not null))
~ select id from t where not (i64 > all (select i64 from u))
~ select id from t where i64 > any (select i64 from u where k=t.k)
select id from t where (i64 > all (select i64 from u where i64<0)) is null
~ select id from t where i64 > all (select i64 from u where i64<0) or id<3
~ select id from t where i64 > any([1,2])
~ select id from t where f64 < all(select f64 from u where f64 is not null)
select id from t where i64 < all (select 5 union all select 6)
~ select id from t where k not in (select k from u where u.id=t.id)
select id from t where k not in (select k from u where u.id<t.id)
~ select id from t where (k not in (select k from u where u.k<2)) is true
select id from t where not (k in (select k from u where k<2))
~ select id from t where k not in (select k from u where k<2) or id<4
select id from t where (k in (select k from u where k<2)) is null
~ select id from t where coalesce(k in (select k from u), true)
select id from t where case when k not in (select k from u where k<2) then true else false end
~ select id from t where k not in (select k from u where k<2) and b not in (select b from u where b)
select id from t where k not in (select null)
~ select id from t where null not in (select k from u where false)
select id from t where k not in (1,2,null)
~ select id from t where (k = any (select k from u where k<2)) is null
~ select id from t where not (k = any (select k from u where k<2)) or id<4
~ select id from t where not (k = any (select k from u))
select id from t where k <> all (select k from u where u.id<t.id)
~ select id from t where (k <> all (select k from u where u.id<t.id)) is null
~ select id from t where not (k = any (select k from u where u.id<t.id)) or id<3
~ select id from t where k not in (select k from u where u.id=t.id and u.b)
select id from t where k not in (select k from u where u.i8=t.i8)
~ select id from t where exists (select 1 from u where u.k=t.k) or id<3
~ select id from t where not exists (select 1 from u where u.k=t.k) or id<3
~ select id from t where (not exists (select 1 from u where u.k=t.k)) is true
select id from t where k in (select k from u where k in (select k from u where k<3) and id>2) and id<50
~ select id from t where k in (select k from u where not (k in (select k from u where k<2))) and id<50
select id from t where s <> ' x IN (SELECT' and (k in (select k from u where k < 2) or id < 3) and k not in (select k from u where k<1)
~ select id from t where (k+1 in (select k from u)) and not (id in (select id from u)) -- not in (select
select id from t where exists(select 1 from u where u.k=t.k) and k in (select k from u where u.i64<t.i64)
~ select id from t where k not in (select k from u where k<2) = (id<10)
-- # refused
select id, exists(select 1 from u where u.k=t.k) e from t
~ select id, k in (select k from u) e from t
select id, k not in (select k from u) e from t
~ select id, k not in (select k from u where k is not null) e from t
select id from t where (k,b) in (select k,b from u)
~ select t.id, x.v from t cross join unnest(t.li) as x(v)
select t.id, x.v from t, lateral (select unnest(t.li) v) x
~ select id from t order by id fetch first 3 rows only
select id, i64::varchar, f64::int, s::varchar(2), try_cast(s as int), cast(d as timestamp), cast(ts as date) from t
~ select id, i64 & 7, i64 | 3, i64 # 5, i64 << 2, i64 >> 1, i64 % 7, -i64, i64/7 from t
select id from t limit (select 3)
~ select id, (select s from u where u.id=t.id) from t
select id, (select u.i64 from u where u.k=t.k order by id limit 1) from t
~ select id, (select sum(u.i64) from u where u.k>t.k) from t
select id, id from t
~ select 1, 1
select count(*), count(*) from t
~ select t from t
select count(t) from t
~ show tables
insert into t values (1)
~ select * from nope
select nope from t
~ select nope(1) from t
select * from t where id
~ select sum(s) from t
select abs('x') from t
~ select id from t group by k
select
~ selec 1
select * from t; select 1
~ select cast('x' as int) from t
select id/0 from t
~ select i64 / (k-k) from t
select 1/0
~ select arrow_cast(id,'Nope') from t
select * from information_schema.tables
~ select unnest(null)
select * from range(id)
~ select (select max(value) from range(id)) from t
select * from range(1,2,3,4)
~ select * from range('a')
select * from nofunc(3)
create table x as select 1
~ select id, i64 > all (select i64 from u) from t
select id from t where k not in (select k+t.i8 from u)
~ copy t to 'x'
drop table t
~ set a = 1
begin
select f64, sum(cast(id as double)) c1, sum(id) c2 from t group by 1
